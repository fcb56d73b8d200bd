"""Records on disk: frozen dataclasses to Parquet and back, so that the data reaches can each be rerun alone.

**In**: records of `records.py` (nested records, tuples and int32 arrays included).
**Out**: Parquet files, written under a temporary name and renamed when whole.
**Not**: any knowledge of what a record means.
"""
