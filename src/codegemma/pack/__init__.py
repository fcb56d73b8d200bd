"""Files of one repository, ordered and grouped so that they explain each other."""
