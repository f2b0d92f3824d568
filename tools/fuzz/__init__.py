"""Both listeners asked what their OpenAPI document allows, and what not."""
