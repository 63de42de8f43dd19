# Sourced. Where pip is told to look for wheels is handed to uv, which reads another variable.
# $1: the environment's folder.

if [ -z "${UV_FIND_LINKS:-}" ]; then
    links="${PIP_FIND_LINKS:-$("$1/bin/python" -m pip config get global.find-links 2>/dev/null || true)}"
    if [ -n "$links" ]; then
        UV_FIND_LINKS="$(echo $links | tr ' ' ',')"  # pip separates places by blanks, uv by commas
        export UV_FIND_LINKS
    fi
fi
