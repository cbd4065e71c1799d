"""What a gateway is told: from `bridge.yaml`, the environment and the command line to frozen settings.

bridge_schema      every key of the file, once: for the reader, the editors and the reference
bridge_types, bridge_compounds      what a value may be
bridge_file        the reader: all mistakes at once        variables   the simple case, without a file
settings           what comes out
hosts              where events may be sent                project_rules, caller_tokens   the rest of a project
reload             when a file has changed
"""
