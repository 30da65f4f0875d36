"""The place of a worker's settings in version 1.0, for programs written for it."""

from videopure.format.settings import HandlerSettings, Limits, ModelConfig, SettingsError

__all__ = ["HandlerSettings", "Limits", "ModelConfig", "SettingsError"]
