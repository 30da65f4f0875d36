"""Where version 1.0 had a worker's settings; programs written for it still find them here."""

from videopure.format.settings import HandlerSettings, Limits, ModelConfig, SettingsError

__all__ = ["HandlerSettings", "Limits", "ModelConfig", "SettingsError"]
