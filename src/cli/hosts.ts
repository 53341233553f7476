/**
 * `exp device hosts`: tries to make one client over the devices of several hosts, of which the environment
 * or an executor file speaks (`device/hosts.ts`), and takes it apart again. Run on each of them at once. Tasks have one host in this version.
 */
import { Console, Effect } from "effect"
import { Command } from "effect/cli"
import { executing, under } from "./executor.ts"
import { usage } from "./failure.ts"
import { json, typedIn } from "./root.ts"

const variables = "OVERTONE_COORDINATOR, OVERTONE_HOSTS and OVERTONE_HOST_ID"

const tried = async (provider: string) => {
  const [
    { BadHosts, HostsApart, hostsOf },
    { pluginOf },
    { closeClient, openClientWith, PluginAbsent },
    { openFailure },
    { PjrtFailure }
  ] = await Promise.all([
    import("../device/hosts.ts"),
    import("../device/xla/plugins.ts"),
    import("../device/xla/openClient.ts"),
    import("../device/xla/failure.ts"),
    import("../device/xla/pjrt.ts")
  ])
  try {
    const hosts = hostsOf(process.env)
    if (hosts === undefined)
      return `no hosts are named: set ${variables} on each of them, or \`hosts\` in an executor file (docs/gpu.md, Several hosts)`
    const plugin = pluginOf(provider)!
    const { client, joined } = await openClientWith(plugin, { hosts })
    const { devices, devicesEverywhere } = client
    const kind = client.kindOf(devices[0]!)
    const asked = await joined!.counts()
    await closeClient(plugin, { hosts })
    return { host: hosts.id, hosts: hosts.count, devices: devices.length, devicesEverywhere, kind, asked }
  } catch (error) {
    if (error instanceof BadHosts || error instanceof HostsApart || error instanceof PluginAbsent) return error.message
    if (error instanceof PjrtFailure) return openFailure(provider, error).message
    throw error
  }
}

export const hosts = Command.make(
  "hosts",
  { json },
  Effect.fn("exp.device.hosts")(function* ({ json }) {
    const { environment, provider } = yield* executing(typedIn(), json)
    if (!provider.startsWith("xla:")) {
      return yield* usage(`the device ${provider} is of one host: name xla:cuda (exp --device xla:cuda device hosts)`)
    }
    const found = yield* Effect.promise(() => tried(provider)).pipe(under(environment))
    if (typeof found === "string") return yield* usage(found)
    if (json) return yield* Console.log(JSON.stringify(found))
    const { get, put, tryGet } = found.asked
    yield* Console.log(
      `host ${found.host} of ${found.hosts}: ${found.devices} of ${found.devicesEverywhere} devices (${found.kind}); ` +
        `the plugin asked ${get + tryGet} times for a key and put ${put}`
    )
  })
).pipe(
  Command.withDescription("Try one client over several hosts (run on each; tasks have one host in this version)"),
  Command.withExamples([
    {
      command: "OVERTONE_COORDINATOR=node0:7788 OVERTONE_HOSTS=2 OVERTONE_HOST_ID=0 exp --device xla:cuda device hosts",
      description: "On the first of two"
    }
  ])
)
