"""Official data sets as released: sheets and folders become a clip table and a way to load a clip.

`table` is the clip table and the reading of sheets; `frames` loads pictures and faces; a family of
data sets is one file each: `micro` (CASME, CASME II, SMIC-HS, SAMM, MEGC 2019), `affect`
(OMG-Emotion, Aff-Wild, Aff-Wild2), `long` (SAMM-LV, CAS(ME)^2), `hume` (Hume-Reaction), `afew`
(AFEW); `megc_log` reads and writes the challenge's log. `check` compares a data set on this disk
with its own sheets. Frame numbers are the official ones on disk and 0-based from here on;
data/README.md shows the folders.
"""
