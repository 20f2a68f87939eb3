"""The function behind the queue of jobs that failed too often."""

from functions import dead_letters
from functions.aws.process import serving, start

handler = serving(start("dead-letters"), dead_letters.handle)
