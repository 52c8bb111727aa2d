# Source me. Debian packages and sources by private lists: what the machine itself has configured
# is read for its mirror and otherwise left alone. CACHE must name a directory.

die() { echo "$(basename "$0"): $*" >&2; exit 1; }

# The mirror the machine uses for Debian itself (not the security archive, not third parties).
mirror() {
    { sed -n 's/^URIs:[[:space:]]*//p' /etc/apt/sources.list.d/*.sources
      sed -n 's/^deb \(\[[^]]*\] *\)\{0,1\}\([^ ]*\) .*/\2/p' /etc/apt/sources.list /etc/apt/sources.list.d/*.list
    } 2>/dev/null | tr ' ' '\n' | sed 's,/*$,,' | grep -E '/debian$' | head -1
}

# private_apt NAME "SOURCES LINE" ARGUMENTS... : apt-get that knows one line only. It reads neither which
# packages the machine has installed (Dir::State::status) nor which versions its admin prefers: apt-get
# would want those very versions, and the one line may not offer them.
private_apt() {
    local base=$CACHE/apt-$1 line=$2 url keys=/usr/share/keyrings/debian-archive-keyring.gpg
    shift 2
    command -v apt-get >/dev/null || die "apt-get is missing: this needs Debian"
    [ -f "$keys" ] || die "$keys is missing: apt-get install debian-archive-keyring"
    url=$(mirror); [ -n "$url" ] || die "no Debian mirror in /etc/apt: add one to sources.list"
    mkdir -p "$base"/{lists/partial,cache/archives/partial}
    echo "${line%% *} [signed-by=$keys] $url ${line#* }" >"$base/sources.list"
    local options=(-q -o Dir::Etc::SourceList="$base/sources.list" -o Dir::Etc::SourceParts=/dev/null
        -o Dir::State::Lists="$base/lists" -o Dir::Cache="$base/cache"
        -o Dir::State::status=/dev/null -o Dir::Etc::Preferences=/dev/null -o Dir::Etc::PreferencesParts=/dev/null
        -o APT::Default-Release= -o APT::Sandbox::User=root)
    [ -f "$base/updated" ] || { apt-get "${options[@]}" update >/dev/null || die "apt-get update failed for $line"; touch "$base/updated"; }
    apt-get "${options[@]}" "$@"
}
