"""What a gateway is told: from `bridge.yaml`, the environment and the command line to frozen settings.

bridge_file        reads the file: all mistakes at once
bridge_schema      every key of the file, once: for the reader, the editors and the reference
bridge_types       what a value may be
bridge_compounds   the same of lists, mappings, addresses and secrets
variables          the simple case: one project, without a file
settings           what comes out
hosts              where events may be sent
project_rules      the rules files of a project
caller_tokens      tokens as the receivers have them
reload             when a file has changed
"""
