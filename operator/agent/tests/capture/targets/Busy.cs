// A .NET program that spends its time as its arguments say; several at a time.
//   spin    Guilty has nine tenths of the CPU time, Innocent the rest
//   sleep   three threads that wait all the time
//   alloc   Allocates makes arrays that nobody keeps
//   hash    a method of the standard library has all of the CPU time
//   late=F  Late has all of the CPU time, but is compiled only when there is a file F

using System;
using System.IO;
using System.Runtime.CompilerServices;
using System.Threading;

public static class Busy
{
    public static volatile object kept;

    [MethodImpl(MethodImplOptions.NoInlining)]
    static ulong Guilty(ulong seed)
    {
        ulong h = seed | 1;
        for (int i = 0; i < 900000; i++) { h ^= h << 13; h ^= h >> 7; h ^= h << 17; } // the guilty line
        return h;
    }

    [MethodImpl(MethodImplOptions.NoInlining)]
    static ulong Innocent(ulong seed)
    {
        ulong h = seed | 1;
        for (int i = 0; i < 100000; i++) { h ^= h << 13; h ^= h >> 7; h ^= h << 17; }
        return h;
    }

    [MethodImpl(MethodImplOptions.NoInlining)]
    static ulong Spins(ulong n)
    {
        return Guilty(n) + Innocent(n);
    }

    [MethodImpl(MethodImplOptions.NoInlining)]
    static void Allocates()
    {
        kept = new byte[1000];
    }

    static void Spin()
    {
        ulong n = 0;
        while (true) n += Spins(n);
    }

    static void Sleep()
    {
        while (true) Thread.Sleep(10);
    }

    static void Alloc()
    {
        while (true)
        {
            for (int i = 0; i < 200; i++) Allocates();
            Thread.Sleep(1);
        }
    }

    [MethodImpl(MethodImplOptions.NoInlining)]
    static ulong Late(ulong seed)
    {
        ulong h = seed | 1;
        for (int i = 0; i < 1000000; i++) { h ^= h << 13; h ^= h >> 7; h ^= h << 17; }
        return h;
    }

    static void Hash()
    {
        string text = new string('x', 1 << 20);
        ulong n = 0;
        while (true) n += (ulong)text.GetHashCode();
    }

    static void SpinLate(string file)
    {
        while (!File.Exists(file)) Thread.Sleep(10);
        ulong n = 0;
        while (true) n += Late(n);
    }

    static void Start(ThreadStart work)
    {
        Thread thread = new Thread(work);
        thread.IsBackground = true;
        thread.Start();
    }

    public static void Main(string[] work)
    {
        foreach (string word in work)
        {
            string mode = word;
            if (mode == "spin") Start(Spin);
            if (mode == "sleep") for (int i = 0; i < 3; i++) Start(Sleep);
            if (mode == "hash") Start(Hash);
            if (mode == "alloc") Start(Alloc);
            if (mode.StartsWith("late=")) Start(delegate { SpinLate(mode.Substring(5)); });
        }
        Console.WriteLine("ready");
        Thread.Sleep(Timeout.Infinite);
    }
}
