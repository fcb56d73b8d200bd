"""BabelCode: the problems of HumanEval and MBPP in eight languages."""
