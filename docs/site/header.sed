# A comment after a field or a constant is its whole description: make it the brief one, which summaries show.
s,/\*\*< ,/**< @brief ,
