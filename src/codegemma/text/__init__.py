"""How things are spelled: control tokens, tokenizer, infill format, languages, syntax."""
