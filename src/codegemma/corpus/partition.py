"""Divides the files of all repositories into shards, each the work of one task.

**In**: listings, and what each folder states about its licence.
**Out**: shards of listed files, in the order of the listings.
**Not**: content. Where a shard ends hangs on sizes and names near its end alone: a file that comes or goes changes the
shards around it, not all that follow.
"""

from collections.abc import Iterator, Sequence

import xxhash

from codegemma.corpus.entries import ListedFile, Listing
from codegemma.corpus.read import attach_licenses

# Of the text that shards hold; some seconds of work, so that several workers end together and a kill loses little.
MIN_SHARD_BYTES = 2**20
MAX_SHARD_BYTES = 8 * 2**20
MAX_SHARD_FILES = 4_000
# Between least and largest, one file in so many ends its shard.
FILES_PER_END = 64


def cut_shards(listings: Sequence[Listing], max_file_bytes: int) -> Iterator[tuple[ListedFile, ...]]:
    """Divide all files into shards; a file larger than `max_file_bytes` is not read and weighs nothing."""
    shard: list[ListedFile] = []
    shard_bytes = 0
    for listed in attach_licenses(listings):
        shard.append(listed)
        size_bytes = listed.entry.size_bytes
        shard_bytes += size_bytes if listed.entry.refusal is None and size_bytes <= max_file_bytes else 0
        is_full = shard_bytes >= MAX_SHARD_BYTES or len(shard) >= MAX_SHARD_FILES
        if is_full or (shard_bytes >= MIN_SHARD_BYTES and _is_end(listed)):
            yield tuple(shard)
            shard, shard_bytes = [], 0
    if shard:
        yield tuple(shard)


def _is_end(listed: ListedFile) -> bool:
    return xxhash.xxh3_64_intdigest(f"{listed.repo}\n{listed.entry.path}".encode()) % FILES_PER_END == 0
