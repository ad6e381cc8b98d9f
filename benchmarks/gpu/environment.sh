#!/usr/bin/env bash
# An interpreter for one engine on a host without a network:  environment.sh ENV SITE...
#
# ENV becomes a virtual environment that looks for packages in the folders SITE, in their order, and after
# them where this host's python3 has its own. Engines are started without PYTHONPATH, so a folder of unpacked
# packages is not enough.
set -euo pipefail
env=$1; shift
python3 -m venv --without-pip "$env"
own=$("$env/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
# In the order in which this host's python3 looks, with the .pth files that lie there.
python3 - "$@" > "$own/host.pth" <<'EOF'
import os, site, sys
print(*sys.argv[1:], sep="\n")
for folder in filter(os.path.isdir, site.getsitepackages()):
    print(f"import site; site.addsitedir({folder!r})")
EOF
