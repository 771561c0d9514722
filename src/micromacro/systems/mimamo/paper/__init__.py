"""MIMAMO Net on the official data sets, by the paper's protocol: PROFILE="paper" of notebook 04.

OMG-Emotion, Aff-Wild, Aff-Wild2; from films or aligned faces (data/README.md) to the files that the
organisers score. `prepare` makes faces and features once, `unit` trains one fold, `combine` merges
the folds into predictions of the test set and a table. Both protocols share faces, features, folds,
seeds and recipe:

* frozen ResNet-50 features and 12 phase differences of a 48-px grey face for each snippet; in
  training one flip and one crop a sequence, of the grey faces only
* Aff-Wild(2): `MimamoNet` on windows of 64 snippets, one a frame; training windows start every 32
* OMG: `OmgNet` on one snippet a second, up to 16; training also starts 3, 6, ... 27 frames later
* SGD 1e-3, momentum 0.9, weight decay 5e-4, loss -CCC. Aff-Wild: batches of 16, rate / 10 from
  epochs 10 and 20 of 25, patience 5. OMG: batches of 4, rate / 10 from epochs 3 and 5 of 5, patience 3
* five folds by video over the training videos (OMG: of train and validation); the best epoch is that
  of the highest CCC on the fold held out, mean of the labels, after std rescale
* the test set (Aff-Wild2: its validation set, whose labels are public) gets the mean of the folds,
  then std rescale to the training labels' spread

==================  ==============================================  ============================
                    "ours"                                          "as_released"
==================  ==============================================  ============================
GRU                 along the sequence                              along the batch (B1)
loss                all snippets                                    first ones of a window (B2,
                                                                    Aff-Wild), variances by n - 1
phase               conjugate products                              one-sided unwrapping (Q1)
crop                0.85 of the face                                40 px of it (Q5, Aff-Wild)
gaps, cuts          snippets that touch one are masked              frames without a face (or
                                                                    label, in training) dropped,
                                                                    snippets reach across (Q4)
OMG, a second       of the clip's own frame rate                    30 frames
OMG, batches        drawn anew each epoch                           fixed, of like length
test windows        every 32, averaged                              every 64, last one overwrites
==================  ==============================================  ============================

Frames without a prediction take the one before, 0 before the first, wherever a number is due for
every frame. Nothing is clipped to [-1, 1].

Released faults that neither protocol has, since they would spoil what is compared:

* B3, OMG trains on its validation videos: the choice of the epoch and the CCC would mean nothing.
* B4, OMG's shifted copies are one object repeated: its intent is followed, shifts of 3 frames.
* B5, two-label rescale scrambles the predictions: pure noise. Each label is rescaled by itself.
* B6, Aff-Wild validates with random crops: noise in the choice of the epoch.
* B7 and swapped pretraining, valence and arousal networks start from each other's streams: there is
  nothing to swap. The stages before (each stream alone; OMG: weights averaged over folds that have
  seen the validation videos) were not released and are left out; all weights start from PyTorch's
  defaults. So "as_released" is the released *network and loop*, not the released numbers.

The released code takes OpenFace's faces: give its folders if you have them. Films are cut by this
package.
"""

from micromacro.systems.mimamo.paper.fold import grid, prepare, unit
from micromacro.systems.mimamo.paper.protocol import DATASETS, PROTOCOLS
from micromacro.systems.mimamo.paper.scores import combine

__all__ = ["DATASETS", "PROTOCOLS", "combine", "grid", "prepare", "unit"]
