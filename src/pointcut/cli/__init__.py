"""The command `pointcut`: verbs that turn options into calls of the library and results into files and lines."""
