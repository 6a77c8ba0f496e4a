"""edt from Python: what `import edt_cli as edt` offers stands on this room, and so do plug-ins."""
