# Configuration of tacitd: install as /etc/tacit/tacitd.hcl and start tacitd
# with --config /etc/tacit/tacitd.hcl. Every key is a flag of tacitd with _ for
# -, and a flag on the command line wins. What is commented out shows the
# default, except where an example is announced.

# How this node becomes a member: it needs one of the two below, once. Both are
# ignored by a node that is a member already, so that they may stay here.

# The first node creates the mesh, its authority and its operator key.
# bootstrap = true

# Every other node joins by any member. Make the token on a node with an
# operator key (tacit token create --node NAME --service SERVICE): it is for
# one name, works once and for 15 minutes. Keep the file readable by root only.
# Examples:
# join       = ["host1"]
# token_file = "/etc/tacit/token"

# This node's name, one DNS label; default: the host's name. Example:
# node = "host1"

# The IP address by which the other nodes reach this one; default: the one that
# routes out. Set it on a host with more than one. Example:
# address = "192.0.2.1"

# Ports that the other nodes must reach: gossip by UDP and TCP, lanes and
# enrolment by TCP. Let them through the host's firewall.
# gossip_port = 7946
# lane_port   = 7947

# What holds where no intention matches: deny or allow. Say the same on every
# node.
# default_intention = "deny"

# DNS domains of the mesh: db is also db.mesh. consul is always one of them
# (db.service.consul).
# domain = ["mesh"]

# SPIFFE trust domain; read by the node that creates the mesh.
# trust_domain = "tacit.local"

# Virtual addresses of services, each node's own. Take ranges that nothing else
# uses.
# virtual_range4 = "240.64.0.0/12"
# virtual_range6 = "fd7a:ac17::/32"

# How connections are captured: auto (socket hooks, and TPROXY for other network
# namespaces), sockets (hooks alone), or tproxy, for hosts where no hook can be
# attached, which does not hold all guarantees (docs/redirect-tproxy.md).
# redirect = "auto"

# Folders: keys, certificates and records (0700); the socket of the command
# line; service definitions, *.hcl and *.json; pinned programs and maps.
# state_dir    = "/var/lib/tacit"
# run_dir      = "/run/tacit"
# services_dir = "/etc/tacit/services.d"
# bpffs_dir    = "/sys/fs/bpf/tacit"

# Root of the cgroup v2 tree to hook; default: from the mount table. Programs
# outside it are not seen. Example:
# cgroup = "/sys/fs/cgroup"

# The file that names the resolvers whose queries are answered for the mesh.
# resolv_conf = "/etc/resolv.conf"

# What this node leaves alone: connections to these ports and networks, and
# connections and name look-ups of these users and of the programs in these
# cgroups (paths below the root that is hooked). They are never judged, captured
# or rewritten. It opens nothing of the mesh: the port of a strict service on
# this node stays closed to plain connections from everybody, a program that is
# a workload stays one, and virtual addresses are always the mesh's. A service
# whose port is named here is reported, and its port is not excluded. Example:
# exclude {
#   ports   = [9100]
#   cidrs   = ["192.0.2.0/24", "2001:db8::/32"]
#   uids    = [0]
#   cgroups = ["system.slice/sshd.service"]
# }

# Undo a start by itself after this time unless tacit confirm comes; 0s: it
# stays. Meant for a start by hand, as the flag --confirm: here it holds for
# every start, and systemd starts again what was undone (Restart=always).
# confirm = "0s"

# Life of the certificates that this node's authority issues; each is renewed
# long before its end.
# leaf_ttl = "1h0m0s"

# Room in the kernel: intentions, workloads' cgroups, and captured connections
# on their way to the daemon at once, of which one workload may have a quarter.
# What doesn't fit is refused, and tacit status says so. Other numbers than
# those of the last start need tacitd cleanup first.
# max_intentions = 262144
# max_workloads  = 16384
# max_connecting = 65536

# The log, on standard error: text or json; debug, info, warn or error.
# log_format = "text"
# log_level  = "info"
