"""What tests share.

selection         which cases a run leaves out
shell             `redisq` as a command, in a folder of its own
main_paths        a program that goes redisq's main paths, with whatever versions are installed
servers/          servers of a test's own: killed, filled, behind a proxy that loses, holds or slows replies; nginx
workers/          processes that work and log what they do, spawned by the dozen; a producer that is killed
gateways/         the gateway in this process and as processes; HTTP by hand; requests that servers may cut apart
queues/           a queue with one of everything, a call for each script, snapshots of keys, what must hold of them
"""
