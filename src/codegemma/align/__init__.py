"""From a pretrained model to one that follows instructions: conversations, preferences, rewards from tests."""
