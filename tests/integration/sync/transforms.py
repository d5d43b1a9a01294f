"""Transforms of the tests."""

import pandas as pd


def identity(frame: pd.DataFrame) -> pd.DataFrame:
    return frame


def clean(frame: pd.DataFrame) -> pd.DataFrame:
    """Renames `note`, splits `person`, derives `total`, drops rows that are hidden."""
    frame = frame[~frame["hidden"].fillna(False)].rename(columns={"note": "title"})
    # Of an empty frame, and of NULLs alone, str.split(expand=True) makes no such columns.
    names = frame["person"].str.extract(r"(?P<first>\S*) ?(?P<last>.*)")
    total = frame["price"].astype("Float64") * frame["amount"]
    return frame.join(names).assign(total=total).drop(columns=["person", "hidden"])


def titled(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.rename(columns={"note": "title"})


def fragile(frame: pd.DataFrame) -> pd.DataFrame:
    """Fails where a price is negative."""
    if (frame["price"] < 0).any():
        raise ValueError("a price is negative\nand this is a second line")
    return frame


def doubling(frame: pd.DataFrame) -> pd.DataFrame:
    """Makes two rows of one whose note says so."""
    return pd.concat([frame, frame[frame["note"] == "twice"]])


def keyless(frame: pd.DataFrame) -> pd.DataFrame:
    """Keeps but the note."""
    return frame[["note"]]


def never(frame: pd.DataFrame) -> pd.DataFrame:
    """Fails at whatever it is given, but for an empty frame."""
    if len(frame):
        raise LookupError("no")
    return frame


def nothing(frame: pd.DataFrame) -> None:
    """Forgets to return."""
    frame["more"] = 1


def renumbered(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.reset_index(drop=True)


def needing_rows(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.assign(first=frame["note"].iloc[0])


def untyped(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.assign(parts=pd.Series([[1]] * len(frame), index=frame.index, dtype=object))


def reserved(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.assign(_id="x")


def sometimes(frame: pd.DataFrame) -> pd.DataFrame:
    """Makes a column of some rows only."""
    return frame.assign(more=1) if len(frame) else frame


NUMBER = 5
