"""The shared cast: makes the tenants and people of every test in the template database.

alice owns acme; bob, rita, fay, adam, sam and audra have one role each in it; charlie owns globex; olga runs the platform.
"""

from __future__ import annotations

from governance.roles import Role

PASSWORD = "correct horse battery staple"
MEMBERS = {
    "alice": Role.OWNER,
    "adam": Role.ADMIN,
    "bob": Role.DEVELOPER,
    "rita": Role.RELEASE_MANAGER,
    "fay": Role.FINANCE,
    "sam": Role.SECURITY,
    "audra": Role.AUDITOR,
}


def email(name: str) -> str:
    return f"{name}@example.com"


def main() -> None:
    import django

    django.setup()
    from governance.models import User
    from governance.services import people, tenants

    acme = tenants.create_tenant(
        slug="acme", name="Acme", owner_email=email("alice"), owner_password=PASSWORD, actor=None, tier="enterprise"
    )
    tenants.create_tenant(slug="globex", name="Globex", owner_email=email("charlie"), owner_password=PASSWORD, actor=None)
    User.objects.create_user(email("olga"), PASSWORD, name="Olga", is_operator=True)
    for name, role in MEMBERS.items():
        if name != "alice":
            with acme:
                people.add_member(tenant=acme, email=email(name), name=name.title(), roles=[role], actor=None, password=PASSWORD)


if __name__ == "__main__":
    main()
