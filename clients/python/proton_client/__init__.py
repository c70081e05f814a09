"""How to call a Proton gateway from Python."""
