"""The infill format, spelled once for training and for serving: this module is the hinge of the project.

**In**: token ids of a path line, prefix, suffix and middle; or the text around a cursor.
**Out**: ids with loss weights (training), or the ids of a prompt (serving): equal up to the middle, by construction.
**Not**: where to cut (`feed/cut.py`), what to leave out when the window is short (`window.py`).

Layout (CodeGemma report 2406.11409, figures 2 and 4; SPM and SPM1 are variants 2 and 1 of Bavarian et al. 2207.14255,
appendix D):

    <bos> path⏎ <|fim_prefix|> P <|fim_suffix|> S <|fim_middle|> M <|file_separator|> path⏎ ... <eos>     PSM
    <bos> path⏎ <|fim_prefix|> <|fim_suffix|> S <|fim_middle|> P M <|file_separator|> ...                 SPM
    <bos> path⏎ <|fim_suffix|> S <|fim_prefix|> P <|fim_middle|> M <|file_separator|> ...                 SPM1
    <bos> path⏎ text <|file_separator|> ...                                                               no hole
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32, Int32

from codegemma.records import InfillMode, Neighbor
from codegemma.text.control_tokens import (
    BOS_ID,
    EOS_ID,
    FILE_SEPARATOR_ID,
    FIM_MIDDLE_ID,
    FIM_PREFIX_ID,
    FIM_SUFFIX_ID,
)
from codegemma.text.tokenizer import Tokenizer

Ids = Int32[np.ndarray, " n"]

# What one file costs beyond its own tokens: three sentinels and the separator or end after it.
UNIT_OVERHEAD_TOKENS = 4


def _control(*ids: int) -> Ids:
    return np.asarray(ids, dtype=np.int32)


_PREFIX, _SUFFIX, _MIDDLE = _control(FIM_PREFIX_ID), _control(FIM_SUFFIX_ID), _control(FIM_MIDDLE_ID)
_PREFIX_SUFFIX = _control(FIM_PREFIX_ID, FIM_SUFFIX_ID)
_SEPARATOR, _EOS, _BOS = _control(FILE_SEPARATOR_ID), _control(EOS_ID), _control(BOS_ID)


def encode_path(tokenizer: Tokenizer, path: str | None) -> Ids:
    """Encode the path line that stands before a file; nothing where the path is unknown."""
    return tokenizer.encode(path + "\n") if path else _control()


def join_before_middle(path_ids: Ids, prefix_ids: Ids, suffix_ids: Ids, mode: InfillMode) -> list[Ids]:
    """Order the parts that stand before the middle; training and serving both call this and nothing else."""
    if mode is InfillMode.PSM:
        return [path_ids, _PREFIX, prefix_ids, _SUFFIX, suffix_ids, _MIDDLE]
    if mode is InfillMode.SPM:
        return [path_ids, _PREFIX_SUFFIX, suffix_ids, _MIDDLE, prefix_ids]
    return [path_ids, _SUFFIX, suffix_ids, _PREFIX, prefix_ids, _MIDDLE]


def format_prompt(
    tokenizer: Tokenizer,
    *,
    prefix: str,
    suffix: str,
    mode: InfillMode | None,
    path: str | None = None,
    neighbors: Sequence[Neighbor] = (),
) -> list[int]:
    """Spell the prompt for the cursor between `prefix` and `suffix`; the model continues with the middle.

    Every part is encoded on its own, as in training. Text that spells a control token stays text. Without a mode the
    prompt is the beginning of a file without a hole, and the model continues the text.

    Raises:
        ValueError: a suffix, but no mode to tell where it stands.
    """
    path_ids, prefix_ids = encode_path(tokenizer, path), tokenizer.encode(prefix)
    if mode is not None:
        before = join_before_middle(path_ids, prefix_ids, tokenizer.encode(suffix), mode)
    elif suffix:
        raise ValueError(f"a text without a hole has no suffix, got one of {len(suffix)} characters")
    else:
        before = [format_whole(path_ids, prefix_ids)]
    ids: list[int] = np.concatenate([format_neighbors(tokenizer, neighbors), *before]).tolist()
    return ids


def format_neighbors(tokenizer: Tokenizer, neighbors: Sequence[Neighbor]) -> Ids:
    """Spell what every prompt begins with: `<bos>`, then each neighbor and the separator after it."""
    parts: list[Ids] = [_BOS]
    for neighbor in neighbors:
        parts += format_whole(encode_path(tokenizer, neighbor.path), tokenizer.encode(neighbor.text)), _SEPARATOR
    return np.concatenate(parts)


def format_whole(path_ids: Ids, text_ids: Ids) -> Ids:
    """Spell a file without a hole: the form of a training file outside the infill share, and of a neighbor."""
    return np.concatenate([path_ids, text_ids])


def format_infill(
    path_ids: Ids, prefix_ids: Ids, middle_ids: Ids, suffix_ids: Ids, mode: InfillMode, middle_weight: float
) -> tuple[Ids, Float32[np.ndarray, " n"]]:
    """Spell a training file with a hole and weigh each token's prediction; the token that ends it is added later."""
    before = join_before_middle(path_ids, prefix_ids, suffix_ids, mode)
    ids = np.concatenate([*before, middle_ids])
    weights = np.ones(len(ids), dtype=np.float32)
    weights[len(ids) - len(middle_ids) :] = middle_weight
    return ids, weights


def join_files(
    files: Sequence[tuple[Ids, Float32[np.ndarray, " n"]]],
) -> tuple[Ids, Float32[np.ndarray, " n"]]:
    """Join spelled files into one sequence: `<bos>` first, a separator between files, `<eos>` last.

    The token that ends a file weighs what the file's last token weighs: an end of middle is part of the middle.
    `<bos>` weighs nothing: there is nothing to predict it from.
    """
    parts, weights = [_BOS], [np.zeros(1, dtype=np.float32)]
    for index, (ids, file_weights) in enumerate(files):
        parts += ids, (_EOS if index == len(files) - 1 else _SEPARATOR)
        weights += file_weights, (file_weights[-1:] if len(file_weights) else np.ones(1, dtype=np.float32))
    return np.concatenate(parts), np.concatenate(weights)
