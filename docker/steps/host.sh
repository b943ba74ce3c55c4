# Sourced by each step that downloads: what the building host has given for its package sources.
# shellcheck shell=sh
secrets=/run/secrets
if [ -s "$secrets/ca" ]; then
    export SSL_CERT_FILE="$secrets/ca" PIP_CERT="$secrets/ca" CURL_CA_BUNDLE="$secrets/ca"
fi
if [ -s "$secrets/apt" ]; then
    export APT_CONFIG="$secrets/apt"
fi
if [ -s "$secrets/pip" ]; then
    export PIP_CONFIG_FILE="$secrets/pip"
    index="$(sed -n 's/^ *index-url *= *//p' "$secrets/pip")"
    if [ -n "$index" ]; then
        # uv reads no pip.conf.
        export UV_DEFAULT_INDEX="$index"
    fi
fi
export DEBIAN_FRONTEND=noninteractive PIP_DISABLE_PIP_VERSION_CHECK=1
export PIP_NO_CACHE_DIR=1 UV_NO_CACHE=1 UV_NO_PROGRESS=1 UV_PYTHON_DOWNLOADS=never UV_HTTP_TIMEOUT=300
