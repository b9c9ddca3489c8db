"""The point where governance is enforced: `contract`, `publish` (Django) and `plane` (plain asyncio)."""
