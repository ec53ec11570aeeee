# A tree of processes with bad manners. Usage: perl tree.pl TAG MODE [NUMBER]; the tag is for the test's own eyes.
use strict;
use warnings;
use POSIX ();

my ($tag, $mode, $number) = @ARGV;
$| = 1;

sub idle { sleep 1000 while 1 }

sub ignore { $SIG{$_} = 'IGNORE' for qw(TERM INT HUP QUIT USR1 USR2 ALRM PIPE TSTP TTIN TTOU) }

sub child {
    my ($work) = @_;
    my $pid = fork;
    die "fork: $!" unless defined $pid;
    return $pid if $pid;
    $work->();
    POSIX::_exit(0);
}

# A child of a child in a session of its own, whose parents are gone.
sub escaped {
    my ($work) = @_;
    my $pid = child(sub { POSIX::setsid(); child($work) });
    waitpid $pid, 0;
}

sub again { exec {$^X} $^X, $0, $tag, @_ or die "exec: $!" }

my %modes = (
    idle => \&idle,
    escape => sub { escaped(\&idle); idle() },
    bare => sub { escaped(sub { %ENV = (); again('idle') }); idle() },
    reexec => sub { child(sub { %ENV = (PATH => '/bin', OTHER => 'name'); again('idle', 'another', 'name') }); again('idle') },
    # In a cgroup of its own making, where it is in one of tenure's.
    nested => sub {
        open my $own, '<', '/proc/self/cgroup' or die "cgroup: $!";
        my ($path) = map { /^0::(.*tenure-.*)/ ? $1 : () } <$own>;
        my ($top) = grep { -e "$_/cgroup.procs" } '/sys/fs/cgroup/unified', '/sys/fs/cgroup';
        escaped(sub {
            if (defined $path) {
                my $inner = "$top$path/inner";
                mkdir $inner or die "$inner: $!";
                open my $procs, '>', "$inner/cgroup.procs" or die "$inner: $!";
                syswrite $procs, $$ or die "$inner: $!";
            }
            %ENV = ();
            again('idle');
        });
        idle();
    },
    stopped => sub { child(sub { kill STOP => $$; idle() }); kill STOP => $$; idle() },
    stubborn => sub { ignore(); child(\&idle); escaped(\&idle); idle() },
    many => sub { child(\&idle) for 1 .. $number; idle() },
    # Each that is told to end leaves a new one behind, in a session of its own.
    hydra => sub {
        my $heads = $number;
        my $grow;
        $grow = sub {
            return if $heads-- <= 0;
            escaped(sub { $SIG{TERM} = $grow; idle() });
        };
        $SIG{TERM} = $grow;
        child(sub { $SIG{TERM} = $grow; idle() });
        idle();
    },
    # As many as there are tokens, and one more for each that ends: who kills one by one never comes to an end.
    bomb => sub {
        pipe my $take, my $give or die "pipe: $!";
        syswrite $give, 'x' x $number;
        $SIG{TERM} = 'IGNORE';
        $SIG{CHLD} = sub { while (waitpid(-1, POSIX::WNOHANG()) > 0) { syswrite $give, 'x' } };
        while (1) {
            my $got = sysread $take, my $token, 1;
            next unless $got;
            my $pid = fork;
            syswrite $give, 'x' unless defined $pid;
        }
    },
);
$modes{$mode}->();
