"""The refresh of simplejwt. Run as a program, it makes the tables and COUNT users, and prints a refresh token for each.

python app.py COUNT
"""

import json
import os
import sys

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "settings")

from django.core.wsgi import get_wsgi_application

application = get_wsgi_application()

from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.urls import path
from rest_framework_simplejwt.tokens import RefreshToken
from rest_framework_simplejwt.views import TokenRefreshView

urlpatterns = [path("api/token/refresh/", TokenRefreshView.as_view())]

if __name__ == "__main__":
    call_command("migrate", verbosity=0)
    for number in range(int(sys.argv[1])):
        user = get_user_model().objects.create(username=f"user{number}")
        print(json.dumps({"token": str(RefreshToken.for_user(user))}))
