"""One YAML file, validated as a whole, compiled into what the code runs on."""
