#!/bin/sh
# botocore describes every service of AWS. Those of a bucket and of its credentials stay.
set -eu
data="$(/opt/mountkit/bin/python -c 'import botocore, pathlib; print(pathlib.Path(botocore.__file__).parent / "data")')"
for service in "$data"/*/; do
    case "$(basename "$service")" in
        s3 | sts | sso | sso-oidc | signin) ;;
        *) rm -rf "$service" ;;
    esac
done
