"""Packs in; rows of token ids with loss weights, segments and positions out."""
