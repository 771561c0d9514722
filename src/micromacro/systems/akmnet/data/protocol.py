"""Who may be on which side of a split, and the composite of the MEGC 2019 challenge."""

import pandas as pd

from micromacro.errors import BadInput
from micromacro.systems.akmnet.data.labels import relabel

COMPOSITE = ("casme2", "smic", "samm")
# Clips that `megc3` keeps and the published list of 442 does not have; the first has no apex.
OMITTED = frozenset({("casme2", "04", "EP12_01f"), ("casme2", "05", "EP09_05f")})


def people(table: pd.DataFrame) -> list[str]:
    """The person of each row, as "casme2/01": groups for `micromacro.folds`.

    Two data sets may call different people alike; with the data set's name they stay apart.

    Args:
        table: Clip table.
    """
    return [f"{row.dataset}/{row.subject}" for row in table.itertuples()]


def megc2019(*tables: pd.DataFrame) -> pd.DataFrame:
    """The composite of MEGC 2019 (See et al. 2019): CASME II, SMIC-HS and SAMM in three classes.

    With all official clips there: 442 clips of 68 people, 250 negative, 109 positive, 83 surprise;
    CASME II 145 clips of 24 people (88, 32, 25), SMIC-HS 164 of 16 (70, 51, 43), SAMM 133 of 28
    (92, 26, 15). CASME II's subjects 10 and 18 and SAMM's 025 have none of these emotions and
    vanish. Of CASME II's sheet the map keeps two clips that the published list omits, 04/EP12_01f
    and 05/EP09_05f; they are omitted here too.

    The protocol leaves one person out at a time, pools the predictions of all folds, and takes UF1
    and UAR of the pool, or of one data set's part of it.

    Args:
        tables: Clip tables as read, each of one or more of the three data sets, none twice.

    Returns:
        One clip table: CASME II, SMIC-HS, SAMM; ``label`` as in `relabel` with "megc3".

    Raises:
        BadInput: One of the three lacks, is given twice, or another is among them.
    """
    given = [name for table in tables for name in table["dataset"].unique()]
    if sorted(given) != sorted(COMPOSITE):
        fault = f"is of {', '.join(COMPOSITE)}, not of {', '.join(given) or 'nothing'}"
        raise BadInput("MEGC 2019 composite", fault, "give each of the three once")
    together = relabel(pd.concat(tables, ignore_index=True), "megc3")
    keys = zip(together["dataset"], together["subject"], together["clip"], strict=True)
    kept = together[[key not in OMITTED for key in keys]]
    order = kept["dataset"].map(COMPOSITE.index)
    return kept.loc[order.sort_values(kind="stable").index].reset_index(drop=True)
