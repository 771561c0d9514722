"""AKMNet on the official data sets, by the paper's protocol: PROFILE="paper" of notebook 08.

CASME, CASME II, SMIC-HS, SAMM, and the composite of MEGC 2019; from sheets and pictures
(data/README.md) to pooled scores. `prepare` makes the clips once, `grid` lists the folds, `unit` trains
one, `combine` pools them. Each person is left out once; predictions of all clips are pooled. Both
protocols share clips, magnification, seeds and first weights, the GRU's excepted, and:

* grey clips from onset to offset, motions magnified with alpha 15 (`store`), 128 px in [0, 1]
* `AkmNet` of the published sizes; classes of `akm4`, of the composite `megc3`
* cross-entropy + 0.1 count + 1 margin; SGD, rate 1e-3, momentum 0.9, weight decay 5e-4; 8 clips a
  step; 40 epochs; in the test the plain resize to 128 px
* the last epoch counts. The best *test* epoch of each person, which is what the released program
  keeps, is scored beside it as "best_subject": from the same training, so its gain can be seen

==================  ==============================================  ============================
                    "ours"                                          "as_released"
==================  ==============================================  ============================
batch norm          over all frames of the 8 clips                  over one clip at a time
binariser           gradient to kept frames (the paper's            to all frames
                    equations)
frames at the mean  dropped                                         kept
start of the GRU    orthogonal, biases 0                            forward biases in (0, 1),
                                                                    reverse PyTorch's
learning rate       one cosine from 1e-3 down towards 1e-8          down in 8 epochs, up in 8,
                                                                    down ..., 3.8e-5 at last
training pictures   128 px cut at random out of 144                 so with probability 0.5,
                                                                    else resized to 128
classes             resampled up to the largest, as the paper says  as they are
==================  ==============================================  ============================

What neither has, since it was not released: the checkpoint pre-trained on ImageNet and AffectNet
(`pretrained`: a random start, ImageNet or a file of yours), the paper's face crops (take the data
sets' own), its magnification (`store`), and its list files, which may have named clips of rare classes
more than once. So "as_released" is the released *network and loop*, not the released numbers. Of the
released faults, those that only crash are mended: a clip that keeps no frame, or drops none.

What a step keeps for its gradient is 7 MB a frame: of "ours", which has 8 clips at once, 4 GB with CASME
II's mean clips and 8 GB with its longest; of "as_released", one clip at a time, an eighth.
"""

from micromacro.systems.akmnet.paper.loso import grid, prepare, unit
from micromacro.systems.akmnet.paper.protocol import ARMS, EPOCHS, PROTOCOLS
from micromacro.systems.akmnet.paper.scores import Combined, combine
from micromacro.systems.akmnet.paper.store import DATASETS

__all__ = [
    "ARMS",
    "DATASETS",
    "EPOCHS",
    "PROTOCOLS",
    "Combined",
    "combine",
    "grid",
    "prepare",
    "unit",
]
