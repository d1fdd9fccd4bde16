# shellcheck shell=bash disable=SC2034
# Shared by the scripts, sourced after "set -euo pipefail": messages, settings, the state folder, packages, processes, PostgreSQL, Docker, nginx.

umask 022
REPO=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
readonly REPO

say() { printf '==> %s\n' "$*"; }
warn() { printf '==> %s\n' "$*" >&2; }
die() {
    printf 'error: %s\n' "$1" >&2
    shift
    (($# == 0)) || printf '       %s\n' "$@" >&2
    exit 1
}

# Goes on as root, keeping PATH (the Swift toolchain) and our settings. Call with the script's own "$0" "$@".
need_root() {
    ((EUID != 0)) || return 0
    command -v sudo >/dev/null || die "this needs root, and there is no sudo" "run it as root"
    exec sudo --preserve-env="$(compgen -e | grep -E '^(THECLOUD_|DOCKER_HOST$)' | paste -sd, -)" env "PATH=$PATH" "$@"
}

# --- Settings -------------------------------------------------------------------------------------------------------------------
# The environment outranks $STATE/env (KEY=VALUE, one a line, no quoting), that outranks the defaults. up keeps what was chosen there.

readonly THESE_ARE_COMPUTED='^THECLOUD_(STATE|RUN|DATABASE_URL|CRON_DATABASE_URL|BIN|CONFIGURATION|CACHE|TEST_.*)$'

load_settings() {
    local line name
    WANTED=${THECLOUD_STATE:-$REPO/.thecloud}   # the state folder, or a link to it
    STATE=$(readlink -m "$WANTED")
    if [[ -r $STATE/env ]]; then
        while IFS= read -r line; do
            name=${line%%=*}
            [[ $name =~ ^(THECLOUD_[A-Z0-9_]+|DOCKER_HOST)$ ]] || continue
            [[ -v $name ]] || export "$name=${line#*=}"
        done <"$STATE/env"
    fi
    default THECLOUD_HTTP_PORT 8080
    default THECLOUD_HTTPS_PORT 8443
    CHOSEN=$(compgen -e | grep -E '^(THECLOUD_|DOCKER_HOST$)' | grep -vE "$THESE_ARE_COMPUTED" || true)

    default THECLOUD_PUBLIC_URL "http://localhost:$THECLOUD_HTTP_PORT"
    default THECLOUD_PUBLIC_HOST 127.0.0.1
    default THECLOUD_AUTH_RATE 5r/m
    default THECLOUD_AUTH_BURST 4
    default THECLOUD_KEY_RATE ''
    default THECLOUD_TRUSTED_PROXIES ''
    default THECLOUD_EGRESS_ALLOW 127.0.0.0/8,::1/128,10.0.0.0/8,172.16.0.0/12,192.168.0.0/16,fc00::/7
    default THECLOUD_USER thecloud
    default THECLOUD_LONG_USER thecloud-long
    default THECLOUD_CRON_USER thecloud-cron
    default THECLOUD_SOCKET_GROUP www-data
    settle_paths

    local pattern
    for name in THECLOUD_HTTP_PORT THECLOUD_HTTPS_PORT THECLOUD_AUTH_BURST THECLOUD_AUTH_RATE THECLOUD_KEY_RATE THECLOUD_TRUSTED_PROXIES; do
        case $name in
            *_RATE) pattern='^([1-9][0-9]{0,5}r/[sm])?$' ;;
            *_PROXIES) pattern='^[0-9a-fA-F:./, ]*$' ;;
            *) pattern='^[0-9]{1,5}$' ;;
        esac
        [[ ${!name} =~ $pattern ]] || die "$name=${!name} is not understood" "it must match $pattern"
    done
    [[ -n $THECLOUD_AUTH_RATE ]] || die "THECLOUD_AUTH_RATE must not be empty" "for example 5r/m"
}

# All that follows from where the state folder is.
settle_paths() {
    export THECLOUD_STATE=$STATE
    export THECLOUD_RUN=$STATE/run
    export THECLOUD_DATABASE_URL="postgresql:///thecloud?host=$STATE/run/pg&user=thecloud_api"
    export THECLOUD_CRON_DATABASE_URL="postgresql:///thecloud?host=$STATE/run/pg&user=thecloud_cron"
    [[ $CHOSEN == *THECLOUD_SECRET_FILE* ]] || export THECLOUD_SECRET_FILE=$STATE/secret
    OPERATOR_URL="postgresql:///thecloud?host=$STATE/run/pg&user=postgres"
}

default() { [[ -v $1 ]] || export "$1=$2"; }

save_settings() {
    local name
    ( umask 077
      for name in $CHOSEN; do printf '%s=%s\n' "$name" "${!name//$'\n'/ }"; done >"$STATE/env.new" )
    mv "$STATE/env.new" "$STATE/env"
}

# All that workers and cron get, sorted.
effective_settings() {
    local name
    for name in $(compgen -e | grep -E '^(THECLOUD_|DOCKER_HOST$)' | grep -vE '^THECLOUD_(BIN|CONFIGURATION|CACHE|TEST_.*)$'); do
        printf '%s=%s\n' "$name" "${!name}"
    done
}

# --- The state folder -----------------------------------------------------------------------------------------------------------

# Why nginx, PostgreSQL or the workers could not live at this path; nothing if they can. Socket paths end after 107 bytes.
unfit() {
    local place=$1 user
    [[ $place =~ ^[A-Za-z0-9/._+-]+$ ]] || { echo "its path has characters that need quoting"; return; }
    ((${#place} + 27 <= 107)) || { echo "its path is too long for unix sockets"; return; }
    while [[ ! -d $place ]]; do place=$(dirname "$place"); done
    [[ $place != "$1" ]] || place=$(dirname "$place")
    for user in www-data postgres; do
        runuser -u "$user" -- test -x "$place" 2>/dev/null || { echo "$user may not enter $place"; return; }
    done
}

# Makes the state folder. Where it can't work it becomes a link to a folder under /var/lib/thecloud, named by the hash of the wanted path.
place_state() {
    local why wanted=$STATE
    why=$(unfit "$wanted")
    if [[ -n $why ]]; then
        if [[ -d $wanted ]] && ! rmdir "$wanted" 2>/dev/null; then
            die "the state folder $wanted can't be used: $why" \
                "let others pass through (chmod o+x on it and the folders above it), or choose another: THECLOUD_STATE=/srv/thecloud scripts/up"
        fi
        STATE=/var/lib/thecloud/$(printf %s "$wanted" | sha256sum | cut -c1-12)
        say "the state folder is $STATE, linked from $wanted: $why"
        install -d -m 755 /var/lib/thecloud "$(dirname "$wanted")"
        install -d -m 755 "$STATE"
        ln -sfn "$STATE" "$wanted"
        settle_paths
    fi
    install -d -m 755 "$STATE" "$STATE/bin" "$STATE/run" "$STATE/nginx"
    install -d -m 750 "$STATE/log"
    install -d -m 700 -o www-data -g www-data "$STATE/nginx/temp"
    install -d -m 700 -o "$THECLOUD_CRON_USER" -g "$THECLOUD_CRON_USER" "$STATE/mail"
    install -d -m 755 -o postgres -g postgres "$STATE/run/pg"
    # nginx makes a socket that anybody may use: the folder says who.
    install -d -m 700 -o "$THECLOUD_CRON_USER" -g "$THECLOUD_CRON_USER" "$STATE/run/publish"
}

# One script at a time works on a stack. What is started in the background must not keep descriptor 9.
lock_state() {
    exec 9>"$STATE/lock"
    flock -w 600 9 || die "another script is at work on $STATE"
}

# --- Packages, users ------------------------------------------------------------------------------------------------------------

readonly PACKAGES=(nginx libnginx-mod-nchan postgresql docker.io libfcgi-dev libpq-dev libssl-dev libcurl4-openssl-dev libarchive-dev libwslay-dev pkg-config openssl ca-certificates curl jq iproute2 tzdata)

# Installs what is missing. Debian starts nginx and PostgreSQL on installation: what did not run before is stopped again.
install_packages() {
    local missing=() package unit ran=''
    for package in "$@"; do
        [[ $(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null) == installed ]] || missing+=("$package")
    done
    ((${#missing[@]} > 0)) || return 0
    for unit in nginx postgres; do
        if pidof "$unit" >/dev/null; then ran+=" $unit"; fi
    done
    say "installing ${missing[*]}"
    export DEBIAN_FRONTEND=noninteractive
    apt-get -qq -o DPkg::Lock::Timeout=120 update || warn "apt-get update failed; trying with the lists that are here"
    apt-get -qq -y -o DPkg::Lock::Timeout=120 install --no-install-recommends "${missing[@]}" >/dev/null ||
        die "apt-get could not install ${missing[*]}" "see its messages above; then run this again"
    [[ $ran == *nginx* ]] || stop_service nginx nginx
    [[ $ran == *postgres* ]] || stop_service postgresql postgres
}

stop_service() {
    pidof "$2" >/dev/null || return 0
    say "stopping the $1 that the installation started"
    if [[ -d /run/systemd/system ]]; then systemctl disable --now --quiet "$1"; else service "$1" stop >/dev/null; fi
}

make_users() {
    local user
    for user in "$THECLOUD_USER" "$THECLOUD_LONG_USER" "$THECLOUD_CRON_USER"; do
        getent passwd "$user" >/dev/null ||
            useradd --system --user-group --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin "$user"
    done
    # Only these two may speak to the engine.
    usermod --append --groups docker "$THECLOUD_LONG_USER"
    usermod --append --groups docker "$THECLOUD_CRON_USER"
}

# --- Swift -----------------------------------------------------------------------------------------------------------------------

find_swift() {
    local place home
    home=$(getent passwd "${SUDO_USER:-root}" | cut -d: -f6)
    for place in '' /opt/swift/usr/bin /usr/share/swift/usr/bin "$home/.local/share/swiftly/bin"; do
        if PATH=${place:+$place:}$PATH command -v swift >/dev/null; then
            export PATH=${place:+$place:}$PATH
            break
        fi
    done
    command -v swift >/dev/null ||
        die "there is no Swift toolchain on PATH" "install Swift 6 from https://www.swift.org/install/linux/" \
            "with sudo: start scripts/up without it (it asks for root itself), or say sudo env \"PATH=\$PATH\" scripts/up"
    local version=0
    if [[ $(as_invoker swift --version 2>/dev/null) =~ Swift\ version\ ([0-9]+)\.([0-9]+) ]]; then
        version=$((BASH_REMATCH[1] * 100 + BASH_REMATCH[2]))
    fi
    ((version >= 602)) || die "Swift 6.2 or newer is needed" "found: $(as_invoker swift --version 2>&1 | head -1)"
}

# Builds belong to the user who owns the checkout, also under sudo.
as_invoker() {
    if [[ -n ${SUDO_UID:-} && $SUDO_UID != 0 && $(stat -c %u "$REPO") == "$SUDO_UID" ]]; then
        runuser -u "$SUDO_USER" -- env "PATH=$PATH" "HOME=$(getent passwd "$SUDO_USER" | cut -d: -f6)" "$@"
    else
        "$@"
    fi
}

# --- Processes ------------------------------------------------------------------------------------------------------------------

# The process id in run/NAME.pid if that process lives and is this stack's.
pid_of() {
    local pid
    pid=$(cat "$STATE/run/$1.pid" 2>/dev/null) && [[ -n $pid ]] || return 1
    [[ $(tr '\0' ' ' <"/proc/$pid/cmdline") == *"$STATE/"* ]] 2>/dev/null || return 1
    echo "$pid"
} 2>/dev/null

# Runs $STATE/bin/PROGRAM in a session of its own, with our settings and nothing else of this environment.
start_program() {
    local name=$1 program=$2
    (
        exec 9>&-
        for variable in $(compgen -e); do
            case $variable in
                THECLOUD_BIN | THECLOUD_CONFIGURATION | THECLOUD_CACHE | THECLOUD_TEST_*) export -n "${variable?}" ;;
                THECLOUD_* | DOCKER_HOST | PATH | LD_LIBRARY_PATH) ;;
                # Not unset: one of ours may have the name of what the caller exported.
                *) export -n "${variable?}" ;;
            esac
        done
        cd "$STATE" || exit
        umask 027
        exec setsid "$STATE/bin/$program" </dev/null >>"$STATE/log/$name.log" 2>&1
    ) &
    echo $! >"$STATE/run/$name.pid"
}

# Asks with SIGNAL, waits SECONDS, then kills the whole session.
stop_program() {
    local name=$1 signal=$2 seconds=$3 pid tick
    if pid=$(pid_of "$name"); then
        say "stopping $name"
        kill -s "$signal" "$pid"
        for ((tick = 0; tick < seconds * 10; tick++)); do
            pid_of "$name" >/dev/null || break
            sleep 0.1
        done
        if pid_of "$name" >/dev/null; then
            warn "$name did not stop within $seconds s and is killed"
            kill -KILL -- "-$pid" 2>/dev/null || kill -KILL "$pid" 2>/dev/null || true
        fi
    fi
    rm -f "$STATE/run/$name.pid"
}

port_is_free() { [[ -z $(ss -Hltn "sport = :$1") ]]; }

free_port() {
    local port
    while port=$((20000 + RANDOM % 12000)); do
        if port_is_free "$port"; then echo "$port" && return; fi
    done
}

# --- PostgreSQL -----------------------------------------------------------------------------------------------------------------

# Runs a program of PostgreSQL as the user postgres: of the cluster's own version, else of the newest.
postgres_run() {
    local program=$1 data=$2 version
    shift 2
    version=$(cat "$data/PG_VERSION" 2>/dev/null || find /usr/lib/postgresql -mindepth 1 -maxdepth 1 -printf '%f\n' | sort -n | tail -1)
    ((version >= 15)) || die "PostgreSQL 15 or newer is needed, found ${version:-none}"
    [[ -x /usr/lib/postgresql/$version/bin/$program ]] || die "PostgreSQL $version is missing" "apt-get install postgresql-$version"
    (cd / && exec 9>&- && exec runuser -u postgres -- env LC_ALL=C.UTF-8 "/usr/lib/postgresql/$version/bin/$program" --pgdata="$data" "$@")
}

postgres_runs() { [[ -d $1 ]] && postgres_run pg_ctl "$1" status >/dev/null 2>&1; }

# make_cluster DATA: a private cluster; superuser postgres; who else may connect is written by the caller.
make_cluster() {
    install -d -m 700 -o postgres -g postgres "$1"
    postgres_run initdb "$1" --username=postgres --auth=peer --encoding=UTF8 --locale=C.UTF-8 --data-checksums >/dev/null
    echo "include 'thecloud.conf'" >>"$1/postgresql.conf"
}

start_postgres() {
    local data=$STATE/postgres
    if [[ ! -f $data/PG_VERSION ]]; then
        say "making the PostgreSQL cluster in $data"
        make_cluster "$data"
    fi
    # Terse, and never a statement: details and statements of errors would quote what users sent.
    cat >"$data/thecloud.conf" <<CONF
listen_addresses = ''
unix_socket_directories = '$STATE/run/pg'
max_connections = 400
shared_buffers = 256MB
wal_compression = on
autovacuum_naptime = 5s
jit = off
timezone = 'UTC'
log_timezone = 'UTC'
log_error_verbosity = terse
log_min_error_statement = panic
CONF
    cat >"$data/pg_hba.conf" <<CONF
local all all peer map=thecloud
CONF
    cat >"$data/pg_ident.conf" <<CONF
thecloud root postgres
thecloud root thecloud_owner
thecloud postgres postgres
thecloud $THECLOUD_USER thecloud_api
thecloud $THECLOUD_LONG_USER thecloud_api
thecloud $THECLOUD_CRON_USER thecloud_cron
CONF
    if postgres_runs "$data"; then
        postgres_run pg_ctl "$data" reload >/dev/null
    else
        say "starting PostgreSQL"
        touch "$STATE/log/postgres.log"
        chown postgres "$STATE/log/postgres.log"
        chmod 600 "$STATE/log/postgres.log"
        postgres_run pg_ctl "$data" start --wait --silent >>"$STATE/log/postgres.log" 2>&1 ||
            die "PostgreSQL does not start" "$(tail -5 "$STATE/log/postgres.log")"
    fi
    local maintenance="postgresql:///postgres?host=$STATE/run/pg&user=postgres"
    [[ $(psql -XAtq "$maintenance" -c "select 1 from pg_database where datname = 'thecloud'") == 1 ]] ||
        psql -Xq "$maintenance" -c 'create database thecloud'
}

# --- Docker ---------------------------------------------------------------------------------------------------------------------
# /run/thecloud knows which stacks use the engine, and the dockerd that one of them started: the last to leave stops it.

docker_answers() { timeout 10 docker version >/dev/null 2>&1; }

stack_key() { printf %s "$STATE" | sha256sum | cut -c1-12; }

start_docker() {
    install -d -m 755 /run/thecloud/stacks
    echo "$STATE" >"/run/thecloud/stacks/$(stack_key)"
    ! docker_answers || return 0
    [[ ${DOCKER_HOST:-unix:///var/run/docker.sock} == unix:///*run/docker.sock ]] ||
        die "no Docker answers at DOCKER_HOST=$DOCKER_HOST" "start it, or unset DOCKER_HOST to have one started here"
    say "starting dockerd"
    if [[ -d /run/systemd/system ]]; then
        systemctl start docker
    else
        (exec 9>&- && exec setsid dockerd </dev/null >>"$STATE/log/dockerd.log" 2>&1) &
        echo $! >/run/thecloud/dockerd.pid
    fi
    for _ in {1..60}; do
        ! docker_answers || return 0
        sleep 1
    done
    die "dockerd does not answer" "its log is $STATE/log/dockerd.log, it ends so:" "$(tail -5 "$STATE/log/dockerd.log" 2>/dev/null)"
}

# Whenever a network is made, Docker takes the jump to its rules that keep networks apart out and puts it in again; in between, containers of
# any two reach each other. A second jump, from the chain that Docker leaves to others and moves at another moment, closes that gap.
keep_networks_apart() {
    local rule=(DOCKER-USER -j DOCKER-ISOLATION-STAGE-1)
    ! iptables --wait --check "${rule[@]}" 2>/dev/null || return 0
    iptables --wait --insert "${rule[@]}" 2>/dev/null ||
        warn "iptables ${rule[*]} is not possible here: while Docker makes a network, containers of others may be reached for a moment"
}

# The containers of this stack live on, unless the dockerd that we started has no other user and stops.
leave_docker() {
    # Of that dockerd, whatever engine the stack has.
    local -x DOCKER_HOST=unix:///var/run/docker.sock
    local pid other
    rm -f "/run/thecloud/stacks/$(stack_key)"
    pid=$(cat /run/thecloud/dockerd.pid 2>/dev/null) && [[ $(cat "/proc/$pid/comm" 2>/dev/null) == dockerd ]] || return 0
    for other in /run/thecloud/stacks/*; do
        if [[ -f $other && -d $(cat "$other")/run ]]; then
            say "dockerd goes on for the stack in $(cat "$other")"
            return 0
        fi
    done
    if [[ $(docker ps -q | wc -l) -gt $(stack_objects ps -q | wc -l) ]]; then
        say "dockerd goes on for containers that are not ours"
        return 0
    fi
    say "stopping dockerd"
    kill "$pid"
    for _ in {1..300}; do
        [[ -n $(tr -d '\0' <"/proc/$pid/cmdline") ]] 2>/dev/null || break
        sleep 0.1
    done
    rm -f /run/thecloud/dockerd.pid
}

# stack_objects ps|network ls|volume ls …: docker's listing of what carries this installation's label.
stack_objects() {
    local id
    id=$(cat "$STATE/run/stack-id" 2>/dev/null) && [[ -n $id ]] || return 0
    docker "$@" --filter "label=thecloud.stack=$id"
}

# --- nginx ----------------------------------------------------------------------------------------------------------------------

# render_nginx FOLDER: the configuration and the static pages, with the marks of the templates replaced.
render_nginx() {
    local folder=$1 file text proxy proxies='' marks='#none' pause
    for proxy in ${THECLOUD_TRUSTED_PROXIES//,/ }; do proxies+="set_real_ip_from $proxy;"$'\n'; done
    pause=${THECLOUD_AUTH_RATE%%r*}
    if [[ $THECLOUD_AUTH_RATE == */m ]]; then pause=$(((60 + pause - 1) / pause)); else pause=1; fi
    [[ -e /proc/net/if_inet6 ]] || marks='#ipv6'
    [[ -n $THECLOUD_KEY_RATE ]] || marks+='|#key-rate'
    install -d -m 755 "$folder" "$folder/snippets"
    for file in nginx.conf live.conf $(cd "$REPO/nginx" && echo snippets/*); do
        text=$(grep -vE "($marks)\$" "$REPO/nginx/$file")
        text=${text//'{{STATE}}'/"$STATE"}
        text=${text//'{{RUN}}'/"$THECLOUD_RUN"}
        text=${text//'{{HTTP_PORT}}'/"$THECLOUD_HTTP_PORT"}
        text=${text//'{{HTTPS_PORT}}'/"$THECLOUD_HTTPS_PORT"}
        text=${text//'{{AUTH_RATE}}'/"$THECLOUD_AUTH_RATE"}
        text=${text//'{{AUTH_BURST}}'/"$THECLOUD_AUTH_BURST"}
        text=${text//'{{KEY_RATE}}'/"$THECLOUD_KEY_RATE"}
        text=${text//'{{KEY_BURST}}'/"${THECLOUD_KEY_RATE%%r*}"}
        text=${text//'{{RETRY_AFTER}}'/"$pause"}
        text=${text//'{{TRUSTED_PROXIES}}'/"$proxies"}
        [[ $text != *'{{'* ]] || die "nginx/$file has a mark that nobody replaces"
        printf '%s\n' "$text" >"$folder/$file"
    done
    install -d -m 755 "$folder/html"
    [[ ! -d $REPO/nginx/html ]] || cp -rT "$REPO/nginx/html" "$folder/html"
    chmod -R a+rX "$folder/html" "$folder/snippets" "$folder"/*.conf
    if [[ ! -f $folder/tls/key.pem ]]; then
        say "making a self-signed certificate in $folder/tls"
        install -d -m 700 "$folder/tls"
        (umask 077 && openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 825 -subj /CN=localhost \
            -addext subjectAltName=DNS:localhost,IP:127.0.0.1,IP:::1 \
            -keyout "$folder/tls/key.pem" -out "$folder/tls/certificate.pem" 2>/dev/null) ||
            die "openssl could not make a certificate"
    fi
}

# Runs a command whose processes, when they are woken, wait until whoever has the processor is done (sched(7), SCHED_BATCH).
in_batches() { (chrt --batch --pid 0 "$BASHPID" 2>/dev/null || true; "$@"); }

# The front door, and the nginx of live events behind it, which runs with the file that it was started with.
nginx_run() { (exec 9>&- && exec nginx -e "$STATE/log/nginx-error.log" -p "$STATE/nginx/" -c "$STATE/nginx/nginx.conf" "$@"); }
live_run() { (exec 9>&- && exec nginx -e "$STATE/log/nginx-error.log" -p "$STATE/nginx/" -c "$STATE/run/live.conf" "$@"); }
