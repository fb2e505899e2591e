// Which functions are the app's own code? What belongs to the runtime, its standard library or an installed package
// is not, by rules for each runtime, which the agent has told. Pure.
import type { Tree } from './columns.ts';

/** Whether a function is somebody else's. */
type Rule = (name: string, file: string) => boolean;

/** Names of this list, and what begins with one that ends with a sign, as packages do: `free` is not `freeze`. */
const begins = (list: string): RegExp => {
  const words = list.trim().split(/\s+/);
  const plain = (word: string) => word.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');
  return new RegExp(
    `^(${words.map((word) => plain(word) + (/\w$/.test(word) && !word.endsWith('_') ? '(?![\\w$])' : '')).join('|')})`,
  );
};

const JAVA = begins(`
  java. javax. jakarta. jdk. sun. com.sun. kotlin. kotlinx. scala. groovy. clojure. akka. cats. zio. io.netty.
  io.vertx. io.grpc. io.micrometer. io.opentelemetry. io.quarkus. io.micronaut. org.springframework. org.apache.
  org.hibernate. org.eclipse. org.jboss. org.slf4j. org.postgresql. org.glassfish. com.fasterxml. com.google.
  com.mysql. com.zaxxer. ch.qos.logback. okhttp3. okio. reactor. rx. redis.clients.`);
const DOTNET = begins(`
  System. Microsoft. Interop Internal. MS. Newtonsoft. Npgsql. Grpc. Serilog. NLog. Dapper. StackExchange. Polly.
  AutoMapper. MediatR. OpenTelemetry.`);
const GO = begins(`
  archive/ bufio. bytes. cmp. compress/ container/ context. crypto. crypto/ database/ debug/ embed. encoding.
  encoding/ errors. expvar. flag. fmt. go/ hash. hash/ html. html/ image. image/ internal/ io. io/ iter. log. log/
  maps. math. math/ mime. mime/ net. net/ os. os/ path. path/ plugin. reflect. regexp. regexp/ runtime. runtime/
  slices. sort. strconv. strings. structs. sync. sync/ syscall. syscall/ testing. testing/ text/ time. type: unicode.
  unicode/ unique. unsafe. vendor/ weak. golang.org/x/ google.golang.org/ type..`);
const NATIVE = begins(`
  std:: core:: alloc:: <std:: <core:: <alloc:: <&std:: tokio:: <tokio:: hyper:: <hyper:: boost:: folly:: __gnu_cxx::
  __libc_ __GI_ _start start_thread clone clone3 __clone __clone3 malloc calloc realloc free cfree _int_malloc _int_free
  _int_realloc memcpy memmove memset memcmp memchr memrchr mempcpy memmem __memcpy_ __memmove_ __memset_ __memcmp_
  __memchr_ pthread_ __pthread_ epoll_ futex futex_ syscall`);
const ERLANG = begins(`
  erlang: erts_ gen_server: gen_statem: gen_event: gen: proc_lib: lists: maps: ets: binary: timer: supervisor:
  application: io: file: prim_ code: inet: gen_tcp: ssl: crypto: cowboy: cowboy_ ranch: ranch_ Elixir.Enum Elixir.Stream Elixir.Map
  Elixir.List Elixir.String Elixir.GenServer Elixir.Task Elixir.Kernel Elixir.Plug Elixir.Phoenix Elixir.Ecto`);

/** By what the name of the runtime begins with, which the agent tells. */
const RULES: readonly [string, Rule][] = [
  ['Python', (_, file) => file === '' || /\/(site|dist)-packages\/|\/lib\/python\d|^<frozen/.test(file)],
  ['Node', (_, file) => file === '' || /^node:|\/node_modules\//.test(file)],
  ['JVM', (name) => JAVA.test(name) || !name.includes('.')],
  ['.NET', (name) => DOTNET.test(name) || !name.includes('.')],
  ['Ruby', (_, file) => file === '' || /\/gems\/|\/lib\/ruby\/|^<internal:/.test(file)],
  ['PHP', (name, file) => (file === '' && name !== '{main}') || /\/vendor\//.test(file)],
  ['Erlang', (name) => ERLANG.test(name) || !name.includes(':')],
  [
    'Go',
    (name, file) =>
      GO.test(name) || !name.includes('.') || /\/pkg\/mod\/|\/vendor\/|@v\d+\.\d+\.\d+/.test(file),
  ],
  ['Native', (name, file) => NATIVE.test(name) || /\/rustc\/|\/\.cargo\/|^\/usr\/(include|lib)\//.test(file)],
];

/** The runtime of all targets, if it is one of which it is known what is the app's own. Where there are several, what
 * is own in one looks foreign by the rules of the other. */
export function ownRuntime(runtimes: readonly string[]): string | undefined {
  const of = (runtime: string) =>
    RULES.find(([family]) => runtime.startsWith(family) && !/^\w/.test(runtime.slice(family.length)))?.[0];
  const [first, ...rest] = runtimes.map(of);
  return rest.every((family) => family === first) ? first : undefined;
}

/** By name: whether a function belongs to a runtime, a library or the system, and not to the app. */
export function foreign(tree: Pick<Tree, 'names' | 'files'>, runtime: string): Uint8Array {
  const rule = RULES.find(([family]) => family === ownRuntime([runtime]))?.[1];
  return Uint8Array.from(tree.names, (name, at) => {
    const file = tree.files[at] ?? '';
    // Names in brackets are not functions, but idle threads or code without a name.
    const special = name.startsWith('[') || /^\/(usr\/)?lib(64)?\//.test(file) || /\.so(\.|$)/.test(file);
    return special || rule?.(name, file) ? 1 : 0;
  });
}
