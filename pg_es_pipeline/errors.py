"""What can go wrong, as one list. Each message names the thing, the reason and the remedy."""


class PipelineError(Exception):
    """Base of every error that this project raises on purpose."""

    passing = False
    """Whether the same call may succeed later without anybody changing anything."""


class SettingsError(PipelineError):
    """An environment variable is missing or has a value that it may not have."""


class TablesError(PipelineError):
    """The tables file is missing, is no YAML, or says something that has no meaning."""


class SourceError(PipelineError):
    """A table in PostgreSQL is missing or lacks what its entry in the tables file asks for."""


class TableChanged(SourceError):
    """A table's columns have changed while it was read."""

    passing = True


class IndexRefused(PipelineError):
    """An index cannot be created, belongs to something else, or has another mapping."""


class ReindexUnderWay(PipelineError):
    """A table's index is being reindexed, or rolled back, by somebody else."""

    passing = True


class RowsRefused(PipelineError):
    """Elasticsearch refused rows for good; the checkpoint stays before them."""


class CheckpointConflict(PipelineError):
    """Another run has moved the checkpoint of the same partition in the meantime."""

    passing = True


class ServerAway(PipelineError):
    """PostgreSQL or Elasticsearch cannot be reached, or did not recover within the deadline."""

    passing = True


class TookTooLong(PipelineError):
    """A statement was ended: after the time that it may take, or by an administrator."""

    passing = True


class DeletesRefused(PipelineError):
    """A reconcile would delete a larger share of the documents than it may."""
