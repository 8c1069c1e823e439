"""Log-mel filter banks of speech, as Kaldi computes them."""

import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data_prep.extractors.base import BrokenItem, needs

RATE = 16_000
BANDS = 80


def filter_bank(path: Path, longest: int) -> NDArray[np.float32]:
    """Return the log-mel filter bank of a recording, (frames, 80).

    Frames of 25 ms every 10 ms, Hamming windows, no dither, on 16-bit values.

    Parameters
    ----------
    path
        A WAV file of 16 kHz; channels are averaged.
    longest
        Frames to keep at most.

    Raises
    ------
    BrokenItem
        If it can't be read, is of another rate, or shorter than a frame.
    """
    try:
        import kaldi_native_fbank as kaldi
        from scipy.io import wavfile
    except ImportError as error:
        raise needs(
            error, library="kaldi-native-fbank, SciPy", extra="audio"
        ) from error
    try:
        with warnings.catch_warnings():
            # On chunks besides the samples, such as a title.
            warnings.simplefilter("ignore", wavfile.WavFileWarning)
            rate, samples = wavfile.read(path)
    except (OSError, ValueError, EOFError) as error:
        msg = f"{path.name} can't be read ({error})"
        raise BrokenItem(msg) from error
    if rate != RATE:
        msg = f"{path.name} has {rate} samples a second, not {RATE}"
        raise BrokenItem(msg)
    options = kaldi.FbankOptions()
    options.frame_opts.samp_freq = RATE
    options.frame_opts.dither = 0
    options.frame_opts.window_type = "hamming"
    options.mel_opts.num_bins = BANDS
    bank = kaldi.OnlineFbank(options)
    bank.accept_waveform(RATE, _as_16_bit(samples).tolist())
    bank.input_finished()
    number = min(bank.num_frames_ready, longest)
    if number == 0:
        msg = f"{path.name} is shorter than a frame of 25 ms"
        raise BrokenItem(msg)
    return np.stack([bank.get_frame(k) for k in range(number)]).astype(np.float32)


def _as_16_bit(samples: NDArray[np.generic]) -> NDArray[np.float64]:
    """Return one channel in units of the 16-bit integer 1."""
    mono = samples.astype(np.float64)
    if samples.dtype.kind == "i":
        mono = mono / 2.0 ** (8 * samples.dtype.itemsize - 16)
    elif samples.dtype.kind == "u":
        mono = (mono - 128) * 2**8
    else:
        mono = mono * 2**15
    return mono if mono.ndim == 1 else mono.mean(axis=1)
