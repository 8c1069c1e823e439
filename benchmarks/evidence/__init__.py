"""Which method, when: 18 methods, tuned by one budget, on ten data sets.

* `sets`: the data sets, what their clients differ in, and the budget of each;
* `data`: prepares them;
* `study`: tunes a method on a data set, then trains what was chosen with further seeds;
* `results`: what is kept of a run, a row each;
* `bootstrap`: which differences the seeds and clients separate;
* `tables`: the tables of docs/results/evidence;
* `reproduce`: trains a published row again, and says whether it lies in its band.
"""
