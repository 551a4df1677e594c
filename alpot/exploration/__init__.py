"""Where the potential is tried: schedules of temperature and density, batched dynamics, uncertainty, walkers."""
