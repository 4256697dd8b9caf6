"""pipesync keeps a CRM's sales pipeline honest.

The package is a library first: every command is one call here. Import what you need from the module that
owns it (`pipesync.model`, `pipesync.store`, `pipesync.rules`, ...); this file stays empty so that
`pipesync --help` does not pay for pandas.
"""

__version__ = "0.1.0"
