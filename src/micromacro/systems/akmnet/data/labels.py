"""From the emotions of the official sheets to class numbers: maps by name.

| map | classes, in the order of their numbers | data sets and clips |
| --- | --- | --- |
| ``akm4`` | positive, negative, surprise, others | casme 189, casme2 255, smic 164, samm 159 |
| ``megc3`` | negative, positive, surprise | casme2 147 (145 in the composite), smic 164, samm 133 |
| ``casme2_5`` | happiness, disgust, repression, surprise, others | casme2 246 |
| ``samm_5`` | anger, contempt, happiness, surprise, other | samm 136 |

What is dropped, by emotion: ``akm4`` nothing; SMIC has no "others", so its classes are the first
three. ``megc3`` CASME II's others (99), sadness (7) and fear (2), and SAMM's other (26).
``casme2_5`` sadness and fear; ``samm_5`` disgust (9), fear (8) and sadness (6).
**Repression is "others" in akm4 and "negative" in megc3.**

What is sure and what is not: class 3 of ``akm4`` is "others" (the released README's example), the
order of 0 to 2 is that of the paper's Figure 4, the released one is not known. CASME's emotions are
those counted for the paper's 189 clips; the sheet of 2019 lists 193, and which four the paper left
out is not known. Only ``akm4`` is that of the AKMNet paper, and only ``megc3`` that of a challenge;
``casme2_5`` and ``samm_5`` are customary, the five emotions of more than ten clips, in our order.
"""

import pandas as pd

from micromacro.errors import BadInput

CLASSES: dict[str, tuple[str, ...]] = {
    "akm4": ("positive", "negative", "surprise", "others"),
    "megc3": ("negative", "positive", "surprise"),
    "casme2_5": ("happiness", "disgust", "repression", "surprise", "others"),
    "samm_5": ("anger", "contempt", "happiness", "surprise", "other"),
}

# map -> data set -> emotion as in the sheet, lower case -> class; None: the clip is dropped
LABEL_MAPS: dict[str, dict[str, dict[str, str | None]]] = {
    "akm4": {
        "casme": {
            "happiness": "positive",
            "contempt": "negative",
            "disgust": "negative",
            "fear": "negative",
            "sadness": "negative",
            "surprise": "surprise",
            "repression": "others",
            "tense": "others",
        },
        "casme2": {
            "happiness": "positive",
            "disgust": "negative",
            "fear": "negative",
            "sadness": "negative",
            "surprise": "surprise",
            "others": "others",
            "repression": "others",
        },
        "smic": {"negative": "negative", "positive": "positive", "surprise": "surprise"},
        "samm": {
            "happiness": "positive",
            "anger": "negative",
            "contempt": "negative",
            "disgust": "negative",
            "fear": "negative",
            "sadness": "negative",
            "surprise": "surprise",
            "other": "others",
        },
    },
    "megc3": {
        "casme2": {
            "disgust": "negative",
            "repression": "negative",
            "happiness": "positive",
            "surprise": "surprise",
            "fear": None,
            "others": None,
            "sadness": None,
        },
        "smic": {"negative": "negative", "positive": "positive", "surprise": "surprise"},
        "samm": {
            "anger": "negative",
            "contempt": "negative",
            "disgust": "negative",
            "fear": "negative",
            "sadness": "negative",
            "happiness": "positive",
            "surprise": "surprise",
            "other": None,
        },
    },
    "casme2_5": {
        "casme2": {
            "happiness": "happiness",
            "disgust": "disgust",
            "repression": "repression",
            "surprise": "surprise",
            "others": "others",
            "fear": None,
            "sadness": None,
        },
    },
    "samm_5": {
        "samm": {
            "anger": "anger",
            "contempt": "contempt",
            "happiness": "happiness",
            "surprise": "surprise",
            "other": "other",
            "disgust": None,
            "fear": None,
            "sadness": None,
        },
    },
}

# (map, data set) -> clips of each class, in the order of the classes, if all official clips are there
OFFICIAL_COUNTS: dict[tuple[str, str], tuple[int, ...]] = {
    ("akm4", "casme"): (9, 53, 20, 107),
    ("akm4", "casme2"): (32, 72, 25, 126),
    ("akm4", "smic"): (51, 70, 43, 0),
    ("akm4", "samm"): (26, 92, 15, 26),
    ("megc3", "casme2"): (90, 32, 25),
    ("megc3", "smic"): (70, 51, 43),
    ("megc3", "samm"): (92, 26, 15),
    ("casme2_5", "casme2"): (32, 63, 27, 25, 99),
    ("samm_5", "samm"): (57, 12, 26, 15, 26),
}


def relabel(table: pd.DataFrame, label_map: str) -> pd.DataFrame:
    """Put class numbers in place of the sheets' emotions; drop the clips that the map drops.

    Args:
        table: Clip table of the readers: ``label`` is the sheet's emotion. One data set or several.
        label_map: "akm4", "megc3", "casme2_5" or "samm_5".

    Returns:
        A new table without the dropped rows: ``label`` int64, 0-based number in
        `CLASSES`[label_map]; a column ``emotion`` keeps the sheet's word.

    Raises:
        BadInput: Unknown map; a data set or an emotion that it does not know.
    """
    if label_map not in LABEL_MAPS:
        raise BadInput(f"label map {label_map!r}", "is unknown", f"use {', '.join(LABEL_MAPS)}")
    known = LABEL_MAPS[label_map]
    classes = []
    for row in table.itertuples():
        if row.dataset not in known:
            fault = f"does not cover {row.dataset}"
            raise BadInput(f"label map {label_map}", fault, f"it is for {', '.join(known)}")
        if row.label not in known[row.dataset]:
            fault = f"{row.label!r} is no emotion of {row.dataset}'s sheet"
            what = f"clip {row.subject}/{row.clip}"
            raise BadInput(what, fault, "relabel the readers' table, not one relabelled before")
        classes.append(known[row.dataset][row.label])
    kept = table.assign(emotion=table["label"])[[name is not None for name in classes]]
    numbers = [CLASSES[label_map].index(name) for name in classes if name is not None]
    return kept.assign(label=pd.array(numbers, "int64")).reset_index(drop=True)
