/** `exp device install NAME` (and `hosts`): brings an XLA plugin from the Python package index (or a folder) to the user's cache. */
import { Console, Effect, Option } from "effect"
import { Argument, Command, Flag } from "effect/cli"
import { usage } from "./failure.ts"
import { hosts } from "./hosts.ts"
import { json } from "./root.ts"

const install = Command.make(
  "install",
  {
    name: Argument.Literals("NAME", ["cpu", "nvidia", "nvidia-compiler", "amd", "intel", "tpu", "apple"]).pipe(
      Argument.withDescription(
        "cpu: XLA on the CPU, for tests; nvidia: XLA on NVIDIA's cards; nvidia-compiler: of it what compiles without a card; amd, intel, tpu, apple: other makers' plugins, not run by us"
      )
    ),
    from: Flag.String("from").pipe(
      Flag.withDescription("A folder with the wheels, or the site-packages of an environment that has them"),
      Flag.withMetavar("DIR"),
      Flag.optional
    ),
    json
  },
  Effect.fn("exp.device.install")(function* ({ from, json, name }) {
    const [{ installPlugin }, { installable }, { InstallFailed }] = yield* Effect.promise(() =>
      Promise.all([
        import("../device/xla/install/installPlugin.ts"),
        import("../device/xla/plugins.ts"),
        import("../device/xla/install/InstallFailed.ts")
      ])
    )
    const plugin = installable[name]!
    const say = (line: string) => process.stderr.write(`${line}\n`)
    // anything but InstallFailed is a bug
    const done = yield* Effect.promise(() =>
      installPlugin(plugin, { from: Option.getOrUndefined(from), say }).catch((error: unknown) => {
        if (error instanceof InstallFailed) return error
        throw error
      })
    )
    if (done instanceof InstallFailed) return yield* usage(`${plugin.provider}: ${done.message}`)
    const { folder, state } = done
    const { provider, untried, version } = plugin
    if (json)
      return yield* Console.log(JSON.stringify({ provider, version, folder, state, tried: untried === undefined }))
    yield* Console.log(`${provider} ${version} ${state === "present" ? "is there already" : "is installed"}: ${folder}`)
    if (untried !== undefined) yield* Console.log(`Not run by us. It needs ${untried}.`)
  })
).pipe(
  Command.withDescription("Install a device's plugin in the user's cache"),
  Command.withExamples([
    { command: "exp device install cpu", description: "XLA on the CPU" },
    { command: "exp device install nvidia --from wheels/", description: "On a closed network: from wheels at hand" }
  ])
)

export const deviceCommand = Command.make("device").pipe(
  Command.withSubcommands([install, hosts]),
  Command.withDescription("Devices that programs run on")
)
