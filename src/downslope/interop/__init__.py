"""Exchange with other libraries and formats; each module imports its library only when used."""
