# Configuration of tacitd: install as /etc/tacit/tacitd.hcl and start tacitd
# with --config /etc/tacit/tacitd.hcl. Every key is a flag of tacitd with _
# instead of -, and a flag on the command line overrides it. Values that are
# commented out are the defaults, unless they are marked as an example.

# How this node becomes a member: it needs one of the two below, once. A node
# that is a member already ignores both, so they may stay here.

# The first node creates the mesh, its authority and its operator key.
# bootstrap = true

# Every other node joins by any member. Create the token on a node with an
# operator key (tacit token create --node NAME --service SERVICE). It is valid for
# one name, once, for 15 minutes. Keep the file readable by root only.
# Examples:
# join       = ["host1"]
# token_file = "/etc/tacit/token"

# A node that starts signs nothing as an operator or authority before it has heard
# from another member: its disk may be an older one. With alone it doesn't wait: only
# for a node whose other members are gone for good.
# alone = false

# This node's name, one DNS label; default: the host's name. Example:
# node = "host1"

# The IP address at which the other nodes reach this one; default: the source
# address of the default route. Set it on a host with several. Example:
# address = "192.0.2.1"

# Ports that the other nodes must reach, through the host's firewall: gossip by
# UDP and TCP, lanes and enrolment by TCP.
# gossip_port = 7946
# lane_port   = 7947

# Where Prometheus gets metrics: a port on loopback, such as "127.0.0.1:9464", or
# "unix" for /metrics on the command line's socket; default: nowhere
# (docs/metrics.md).
# metrics = ""

# The verdict where no intention matches: deny or allow. Set the same on every
# node.
# default_intention = "deny"

# DNS domains of the mesh: db is also db.mesh. consul is always one of them
# (db.service.consul).
# domain = ["mesh"]

# Suffixes below which the bare names of services are the mesh's: with
# "corp.example", db.corp.example is the service db. Without it, a name below a
# search suffix of resolv.conf stays what it is (docs/names.md).
# search = []

# What the mesh is called in Consul's names (web.service.dc1.consul), and whether
# names below consul that the mesh doesn't have go to the resolver that was asked,
# where a Consul agent may answer.
# datacenter = "dc1"
# forward_consul = true

# SPIFFE trust domain; only the node that creates the mesh reads it.
# trust_domain = "tacit.local"

# Ranges of the services' virtual addresses, which are valid on this node only.
# Nothing else may use these ranges.
# virtual_range4 = "240.64.0.0/12"
# virtual_range6 = "fd7a:ac17::/32"

# How connections are captured: auto (socket hooks, and TPROXY for other network
# namespaces), sockets (hooks alone), or tproxy, for hosts where no hook can be
# attached, with fewer guarantees (docs/redirect-tproxy.md).
# redirect = "auto"

# Where this node is, such as a rack or an availability zone: callers prefer
# instances of their own zone (docs/balancing.md).
# zone = ""

# Folders: keys, certificates and records (0700); the socket of the command
# line; service definitions, *.hcl and *.json; pinned programs and maps.
# state_dir    = "/var/lib/tacit"
# run_dir      = "/run/tacit"
# services_dir = "/etc/tacit/services.d"
# bpffs_dir    = "/sys/fs/bpf/tacit"

# Root of the cgroup v2 tree to hook; default: from the mount table. The hooks
# don't see programs outside it. Example:
# cgroup = "/sys/fs/cgroup"

# The file that names the host's resolvers; the mesh answers queries to them.
# resolv_conf = "/etc/resolv.conf"

# What this node leaves alone: connections to these ports and networks, and
# connections and DNS queries of these users and of the programs in these
# cgroups (paths below the hooked root). The mesh never decides about, captures
# or rewrites them. An exclusion can't open a service: the port of a strict
# service on this node stays closed to all plain connections, a workload stays a
# workload, and virtual addresses always belong to the mesh. A service's port
# that is listed here is reported, and isn't excluded. Example:
# exclude {
#   ports   = [9100]
#   cidrs   = ["192.0.2.0/24", "2001:db8::/32"]
#   uids    = [0]
#   cgroups = ["system.slice/sshd.service"]
# }

# Undo a start after this time unless tacit confirm is run; 0s: never. It is
# meant for a start by hand, as the flag --confirm. Here it applies to every
# start, and systemd restarts a tacitd that was undone (Restart=always).
# confirm = "0s"

# Take over the work of a tacitd that runs, without a failed connection; where none
# runs, an ordinary start. It is meant for the unit and for a start by hand.
# take_over = false

# How long this daemon carries its live streams to their ends once another one has
# taken over; then it cuts them.
# drain = "10m0s"

# Lifetime of the certificates that this node's authority issues; each is renewed
# long before it expires.
# leaf_ttl = "1h0m0s"

# Limits in the kernel: intentions, cgroups of workloads, and captured connections
# on their way to the daemon, of which one workload may have a quarter. What is
# beyond a limit is refused, and tacit status says so. Run tacitd cleanup before a
# start with other numbers.
# max_intentions = 262144
# max_workloads  = 16384
# max_connecting = 65536

# The log, on standard error: text or json; debug, info, warn or error. These two
# change while tacitd runs, by systemctl reload tacitd; every other key needs a restart.
# log_format = "text"
# log_level  = "info"
