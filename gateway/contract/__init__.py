"""What the portal and the data plane must agree on, and nothing else.

The only part of `gateway` that the apps may import, and the only part of the project that `gateway.plane` may
import. No Django here: a test imports the plane and fails if Django came along.

- `snapshot`  a tenant's whole configuration as the plane sees it
- `events`    one governed call as it is recorded, and the inbox it is copied into
- `copying`   how calls in spool lines become rows of the inbox
- `keys`      the form, digest and check sum of keys and tokens
- `sealing`   upstream secrets and kept payloads at rest
- `payloads`  what is kept of what a call said
- `guardrails`, `detectors`, `places`, `documents`  what is found in the text of a call, by which patterns, where it stands, and inside of JSON
- `surfaces`, `defaults`  what a surface calls a parameter, and which of a model's defaults a call gets
- `steps`     long work, done piece by piece
- `outbound`  which hosts may be called at all
- `logs`      the form of a log line
- `names`     tables, channels and headers that both halves name
"""
