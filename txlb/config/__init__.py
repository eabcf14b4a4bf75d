"""YAML in, validated frozen specs out.

``load`` and ``parse`` (load.py) are the way in: reader.py and scalars.py read strict YAML;
models.py, settings.py and entries.py say which keys there are; kinds.py, values.py and
addresses.py what they may hold; validation.py puts errors into words; crosschecks.py
sees what no single key can tell.
schema.py, reference.py and effective.py are made from the same models.
"""
