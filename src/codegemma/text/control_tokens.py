"""The control tokens and their ids: the only place where they are spelled.

**In**: nothing.
**Out**: ids that every tokenizer of this project shares with CodeGemma's own (google/codegemma-2b).
**Not**: encoding. Control tokens are inserted as ids and never parsed out of text.
"""

PAD_ID = 0
EOS_ID = 1
BOS_ID = 2
UNK_ID = 3
FIM_PREFIX_ID = 67
FIM_MIDDLE_ID = 68
FIM_SUFFIX_ID = 69
FILE_SEPARATOR_ID = 70
START_OF_TURN_ID = 106
END_OF_TURN_ID = 107

CONTROL_TOKENS: dict[int, str] = {
    PAD_ID: "<pad>",
    EOS_ID: "<eos>",
    BOS_ID: "<bos>",
    UNK_ID: "<unk>",
    FIM_PREFIX_ID: "<|fim_prefix|>",
    FIM_MIDDLE_ID: "<|fim_middle|>",
    FIM_SUFFIX_ID: "<|fim_suffix|>",
    FILE_SEPARATOR_ID: "<|file_separator|>",
    START_OF_TURN_ID: "<start_of_turn>",
    END_OF_TURN_ID: "<end_of_turn>",
}

# Generation ends at any of these: a middle is followed by a file separator or the end, and the report (section on
# inference) truncates at any infill sentinel.
STOP_IDS: frozenset[int] = frozenset(
    {EOS_ID, FIM_PREFIX_ID, FIM_MIDDLE_ID, FIM_SUFFIX_ID, FILE_SEPARATOR_ID, END_OF_TURN_ID}
)

# Ids below this are control tokens or reserved in Gemma's vocabulary; no text encodes to them.
RESERVED_IDS = 108
