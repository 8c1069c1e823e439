"""Data sets in the layout of ``datasets.DatasetDict.save_to_disk``, without it."""

import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pa_parquet

CLASSES = ["no", "maybe", "yes"]
FEATURES = {
    "image": {"_type": "Image"},
    "label": {"names": CLASSES, "_type": "ClassLabel"},
    "age": {"dtype": "float32", "_type": "Value"},
    "town": {"dtype": "string", "_type": "Value"},
    "steps": {"feature": {"dtype": "int32", "_type": "Value"}, "_type": "List"},
    "grid": {"shape": [2, 3], "dtype": "float32", "_type": "Array2D"},
    "who": {"dtype": "int64", "_type": "Value"},
}
PARTS = {"train": range(24), "test": range(24, 36), "validation": range(36, 42)}


def pixels(k):
    return np.random.default_rng(k).integers(256, size=(5, 4, 3), dtype=np.uint8)


def png(values):
    from PIL import Image

    held = io.BytesIO()
    Image.fromarray(values).save(held, "png")
    return held.getvalue()


def row(k):
    return {
        "image": {"bytes": png(pixels(k)), "path": None},
        "label": k % 2 * 2,
        "age": k + 0.5,
        "town": "ab"[k % 2],
        "steps": [k] * (1 + k % 3),
        "grid": [[k, k, k], [1, 2, 3]],
        "who": k % 3,
    }


SCHEMA = pa.schema(
    {
        "image": pa.struct({"bytes": pa.binary(), "path": pa.string()}),
        "label": pa.int64(),
        "age": pa.float32(),
        "town": pa.string(),
        "steps": pa.list_(pa.int32()),
        "grid": pa.list_(pa.list_(pa.float32())),
        "who": pa.int64(),
    }
)


def table(rows, features=FEATURES, schema=SCHEMA):
    made = pa.Table.from_pylist([row(k) for k in rows] if schema is SCHEMA else rows,
                                schema=schema)  # fmt: skip
    if features is None:
        return made
    described = json.dumps({"info": {"features": features}})
    return made.replace_schema_metadata({"huggingface": described})


def save_part(folder, made, files=2):
    """Write a part in as many files."""
    folder.mkdir(parents=True)
    names = [f"data-{k:05d}-of-{files:05d}.arrow" for k in range(files)]
    each = -(-made.num_rows // files)
    for k, name in enumerate(names):
        with pa.ipc.new_stream(folder / name, made.schema) as writer:
            writer.write_table(made.slice(k * each, each), max_chunksize=5)
    metadata = json.loads((made.schema.metadata or {}).get(b"huggingface", b"{}"))
    info = {"description": "", **metadata.get("info", {})}
    (folder / "dataset_info.json").write_text(json.dumps(info))
    state = {"_data_files": [{"filename": name} for name in names], "_split": None}
    (folder / "state.json").write_text(json.dumps(state))
    return folder


def save_dict(folder, parts=PARTS, **options):
    for name, rows in parts.items():
        save_part(folder / name, table(rows, **options))
    (folder / "dataset_dict.json").write_text(json.dumps({"splits": list(parts)}))
    return folder


def save_parquet(folder, parts=PARTS, **options):
    folder.mkdir()
    for name, rows in parts.items():
        pa_parquet.write_table(
            table(rows, **options), folder / f"{name}-00000-of-00001.parquet"
        )
    return folder
