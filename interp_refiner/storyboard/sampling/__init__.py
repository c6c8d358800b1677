"""Videos of storyboards and prompts: from a program's settings to files."""
