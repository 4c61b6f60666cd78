#!/bin/sh
# boot.sh FOLDER [SOURCE:TARGET ...]
#
# Boots this machine's systemd as PID 1 of private namespaces, over a throw-away overlay of /, and runs it until SIGTERM.
# FOLDER/shared is /shared in there, and each SOURCE is at its TARGET, read-only. systemd says READY=1 to
# $NOTIFY_SOCKET, which has to be below /shared. Needs root. What happens in there changes nothing outside.
set -eu

main() {
    case $1 in
    in-own-mounts) shift && run_in_a_cgroup "$@" ;;
    in-own-namespaces) shift && boot "$@" ;;
    *) exec unshare --mount "$0" in-own-mounts "$@" ;;
    esac
}

# The cgroup is the root of all that systemd sees. At the end everything in it is killed, and it is removed.
run_in_a_cgroup() {
    mkdir "$1/cgroups"
    mount -t cgroup2 none "$1/cgroups"
    group=$1/cgroups/skycap-boot-$$
    mkdir "$group"
    (
        echo 0 >"$group/cgroup.procs"
        exec unshare --mount --pid --net --uts --ipc --cgroup --fork --kill-child "$0" in-own-namespaces "$@"
    ) &
    trap 'echo 1 >"$group/cgroup.kill"' TERM INT
    wait || true
    echo 1 >"$group/cgroup.kill"
    while grep --quiet "populated 1" "$group/cgroup.events"; do sleep 0.01; done
    find "$group" -depth -type d -exec rmdir {} +
}

boot() {
    folder=$1
    root=$folder/over/root
    shift
    mkdir "$folder/over"
    mount -t tmpfs over "$folder/over"
    mkdir "$folder/over/upper" "$folder/over/work" "$root"
    mount -t overlay -o "lowerdir=/,upperdir=$folder/over/upper,workdir=$folder/over/work" over "$root"
    mount_what_a_kernel_gives
    for pair in "$@"; do
        mkdir -p "$root${pair#*:}"
        mount --bind "${pair%%:*}" "$root${pair#*:}"
        mount -o remount,bind,ro "$root${pair#*:}"
    done
    mkdir "$root/shared" "$root/outside"
    mount --bind "$folder/shared" "$root/shared"
    forget_what_this_machine_runs

    cd "$root"
    pivot_root . outside
    umount -l outside
    mount --make-rshared / # or a service cannot read its credentials
    # Without the capabilities by which a root in namespaces can still change the machine.
    exec env container=skycap-boot setpriv --bounding-set=-sys_module,-sys_time,-sys_rawio,-sys_boot,-syslog \
        /lib/systemd/systemd --system --unit=basic.target --show-status=no --log-target=journal
}

mount_what_a_kernel_gives() {
    mount -t proc proc "$root/proc"
    mount --bind "$root/proc/sys" "$root/proc/sys"
    mount -o remount,bind,ro "$root/proc/sys"
    mount -t sysfs -o ro sysfs "$root/sys"
    mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
    for path in dev run tmp var/tmp var/log etc/systemd/system; do
        mount -t tmpfs -o mode=755 tmpfs "$root/$path"
    done
    chmod 1777 "$root/tmp" "$root/var/tmp"
    for device in "null 1 3" "zero 1 5" "full 1 7" "random 1 8" "urandom 1 9" "tty 5 0"; do
        # shellcheck disable=SC2086 # three words
        make_device $device
    done
    mkdir "$root/dev/pts" "$root/dev/shm"
    mount -t devpts -o newinstance,ptmxmode=666,mode=620,gid=5 devpts "$root/dev/pts"
    mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
    ln -s pts/ptmx "$root/dev/ptmx"
    ln -s /proc/self/fd "$root/dev/fd"
}

make_device() {
    mknod -m 666 "$root/dev/$1" c "$2" "$3"
}

forget_what_this_machine_runs() {
    : >"$root/etc/fstab"
    for unit in \
        systemd-udevd.service systemd-firstboot.service systemd-update-done.service ldconfig.service \
        systemd-modules-load.service modprobe@.service sys-kernel-debug.mount sys-kernel-tracing.mount \
        sys-kernel-config.mount sys-fs-fuse-connections.mount dev-hugepages.mount; do
        ln -s /dev/null "$root/etc/systemd/system/$unit"
    done
}

main "$@"
