"""Settings of the property tests: no deadlines, since the machine that runs them may be busy."""

from hypothesis import HealthCheck, settings

settings.register_profile("relay", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("relay")
