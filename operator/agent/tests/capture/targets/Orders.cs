// A .NET service that waits: each order asks a third party by HTTP, then computes. Three threads have nothing to do,
// and one waits for a lock that another one holds. Arguments: the port of the third party, and how many more
// threads have nothing to do.

using System;
using System.Net.Sockets;
using System.Runtime.CompilerServices;
using System.Text;
using System.Threading;

public static class Orders
{
    static readonly object monitor = new object();
    static readonly ManualResetEvent work = new ManualResetEvent(false);
    public static ulong kept;

    [MethodImpl(MethodImplOptions.NoInlining)]
    static void Guilty()
    {
        ulong h = 1;
        for (int i = 0; i < 9000000; i++) { h ^= h << 13; h ^= h >> 7; h ^= h << 17; }
        kept = h;
    }

    [MethodImpl(MethodImplOptions.NoInlining)]
    static void Pay(int port)
    {
        using (var client = new TcpClient("127.0.0.1", port))
        {
            var stream = client.GetStream();
            var question = Encoding.ASCII.GetBytes("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
            stream.Write(question, 0, question.Length);
            var answer = new byte[256];
            while (stream.Read(answer, 0, answer.Length) > 0) { }
        }
    }

    [MethodImpl(MethodImplOptions.NoInlining)]
    static void Order(int port)
    {
        Pay(port);
        Guilty();
    }

    [MethodImpl(MethodImplOptions.NoInlining)]
    static void Holds()
    {
        lock (monitor) { Thread.Sleep(1000000000); }
    }

    [MethodImpl(MethodImplOptions.NoInlining)]
    static void Wants()
    {
        lock (monitor) { kept++; }
    }

    [MethodImpl(MethodImplOptions.NoInlining)]
    static void Parked()
    {
        work.WaitOne();
    }

    static void Start(ThreadStart does)
    {
        var thread = new Thread(does, 256 * 1024);
        thread.IsBackground = true;
        thread.Start();
    }

    public static void Main(string[] arguments)
    {
        int port = int.Parse(arguments[0]);
        int parked = 3 + (arguments.Length > 1 ? int.Parse(arguments[1]) : 0);
        for (int i = 0; i < parked; i++) Start(Parked);
        Start(Holds);
        Thread.Sleep(300);
        Start(Wants);
        Console.WriteLine("ready");
        while (true) Order(port);
    }
}
